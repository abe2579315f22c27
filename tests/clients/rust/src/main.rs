//! The scenario with fhir-sdk's client.

use std::io::Write as _;

use fhir_sdk::client::{Client, SearchParameters};
use fhir_sdk::r4b::resources::{Patient, ResourceType};
use fhir_sdk::r4b::types::{HumanName, Identifier};
use fhir_sdk::version::FhirR4B;
use futures::TryStreamExt as _;

const PAGE: usize = 7;
const PATIENTS: usize = 40;

type Failure = Box<dyn std::error::Error>;

fn connect(base: &str) -> Result<Client<FhirR4B>, Failure> {
    Ok(Client::new(base.parse()?)?)
}

fn named(family: &str, system: &str, value: &str) -> Result<Patient, Failure> {
    let name = HumanName::builder().family(family.to_owned()).build()?;
    let identifier =
        Identifier::builder().system(system.to_owned()).value(value.to_owned()).build()?;
    Ok(Patient::builder().name(vec![Some(name)]).identifier(vec![Some(identifier)]).build()?)
}

fn ids<'p>(patients: impl Iterator<Item = &'p Patient>) -> Vec<String> {
    patients.filter_map(|patient| patient.id.clone()).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let bases: Vec<String> = std::env::args().skip(1).collect();
    let client = connect(&bases[0])?;

    // What the server can do; create, read, update.
    client.capabilities().await?;
    let (id, _) = client.create(&named("Sdk", "urn:clients", "fhir-sdk")?).await?;
    let mut patient: Patient = client.read(&id).await?.ok_or("it is there")?;
    patient.birth_date = Some("1970-01-02".parse().map_err(|_| "a date")?);
    client.update(&patient, false).await?;
    let patient: Patient = client.read(&id).await?.ok_or("it is there")?;
    assert!(patient.birth_date.is_some());

    // A transaction.
    let mut transaction = client.transaction();
    for number in 0..PATIENTS {
        transaction.create(named("Paged", "urn:paged", &number.to_string())?);
    }
    transaction.send().await?;

    // Searches, with all pages as the client follows them.
    let by = |pairs: &[(&str, String)]| {
        let all = pairs.iter().fold(SearchParameters::empty(), |all, (name, value)| {
            all.and_raw((*name).to_owned(), value.clone())
        });
        all
    };
    let one = by(&[("identifier", "urn:clients|fhir-sdk".to_owned())]);
    let one = client.search::<Patient>(one).await?;
    assert_eq!(ids(one.matches()), [id.clone()]);
    let paged = by(&[("family", "paged".to_owned()), ("_count", PAGE.to_string())]);
    let all: Vec<Patient> =
        client.search::<Patient>(paged.clone()).await?.all_matches().try_collect().await?;
    assert_eq!(all.len(), PATIENTS);
    let everything = client.operation_patient_everything(&id).await?;
    assert_eq!(everything.entry.len(), 1);

    // Pages go on at another node when the first is killed.
    let page = client.search::<Patient>(paged).await?;
    let mut seen = ids(page.matches());
    let mut next = page.next_page_url().cloned();
    let mut base = 0;
    while let Some(url) = next {
        if seen.len() == PAGE {
            println!("kill");
            std::io::stdout().flush()?;
            std::io::stdin().read_line(&mut String::new())?;
            base = 1;
        }
        let url = url.replace(&bases[0], &bases[base]);
        let query = url.split_once('?').map_or("", |(_, query)| query).to_owned();
        let client = connect(&bases[base])?;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let again = pairs.fold(SearchParameters::empty(), |all, (name, value)| {
            all.and_raw(name.to_owned(), value.replace("%7E", "~"))
        });
        let page = client.search::<Patient>(again).await?;
        seen.extend(ids(page.matches()));
        next = page.next_page_url().cloned();
    }
    let found = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((found, seen.len()), (PATIENTS, PATIENTS));

    // Delete.
    let client = connect(&bases[1])?;
    client.delete(ResourceType::Patient, &id).await?;
    let gone = client.read::<Patient>(&id).await;
    assert!(!matches!(gone, Ok(Some(_))), "it is deleted");
    println!("passed");
    Ok(())
}
