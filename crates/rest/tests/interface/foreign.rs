//! This module makes change sets of other origins, which know nothing of what is written here.

use chartmesh_record::{
    Ancestry, ChangeSet, Criteria, Effect, EntryOutcome, Generation, Origin, Place, RequestDigest,
    RequestId, Resource, ResourceKey, Seq, Timestamp, Version, VersionId,
};

/// Another region or node that decides.
#[derive(Debug)]
pub(crate) struct Foreign {
    origin: Origin,
    last: u64,
}

/// A version that it makes.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    key: ResourceKey,
    generation: u64,
    ancestry: Ancestry,
    criteria: Option<String>,
    body: Option<String>,
}

/// A version of `Patient/1`, the first that it knows of, with these members.
pub(crate) fn made(key: &str, members: &str) -> Made {
    let (kind, id) = key.split_once('/').unwrap();
    let key = ResourceKey { kind: kind.parse().unwrap(), id: id.parse().unwrap() };
    let body = Some(format!(r#"{{"resourceType":"{kind}"{members}}}"#));
    Made { key, generation: 1, ancestry: Ancestry::default(), criteria: None, body }
}

impl Made {
    /// A deletion.
    pub(crate) fn deleted(self) -> Self {
        Self { body: None, ..self }
    }

    /// By a conditional create.
    pub(crate) fn unless(self, query: &str) -> Self {
        let criteria = Criteria::parse(self.key.kind, query).unwrap();
        Self { criteria: Some(criteria.query()), ..self }
    }

    /// Beside one that it knows of.
    pub(crate) fn beside(mut self, version: &str) -> Self {
        let version: VersionId = version.parse().unwrap();
        self.generation = self.generation.max(version.generation.0 + 1);
        self.ancestry.seen.insert(version.origin.clone(), version.generation);
        self.ancestry.kept.insert(version);
        self
    }
}

impl Foreign {
    /// The one of this name: `eur` is `eur.0000000000`.
    pub(crate) fn new(name: &str) -> Self {
        Self { origin: Origin::new(&name.parse().unwrap(), 0), last: 0 }
    }

    /// Its next change set: these versions together.
    pub(crate) fn change(&mut self, made: impl IntoIterator<Item = Made>) -> ChangeSet {
        self.last += 1;
        let at = Timestamp(1_795_291_201_204);
        let versions: Vec<Version> = made.into_iter().map(|made| self.version(made, at)).collect();
        let entries = versions.iter().map(|version| EntryOutcome {
            effect: if version.content.is_some() { Effect::Created } else { Effect::Deleted },
            key: Some(version.key.clone()),
            version: Some(version.id(&self.origin)),
        });
        let mut request = [0x11; 16];
        request[0] = u8::try_from(self.last).unwrap();
        let (node, site) = ("eur-1".parse().unwrap(), "landstuhl".parse().unwrap());
        ChangeSet {
            origin: self.origin.clone(),
            seq: Seq(self.last),
            at,
            request: RequestId(request),
            digest: RequestDigest([0x22; 32]),
            client: Some("clinic".to_owned()),
            place: Place { node, site },
            entries: entries.collect(),
            versions,
        }
    }

    fn version(&self, made: Made, at: Timestamp) -> Version {
        let Made { key, generation, ancestry, criteria, body } = made;
        let generation = Generation(generation);
        let name = VersionId { generation, origin: self.origin.clone() };
        let content =
            body.map(|body| Resource::parse(body.as_bytes()).unwrap().render(&key, &name, at));
        Version { key, generation, ancestry, criteria, content }
    }
}
