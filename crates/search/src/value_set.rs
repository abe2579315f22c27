//! This module reads the codes of a value set (FHIR R4, ValueSet), for `:in` and `:not-in`.
//!
//! Only what can be read off the resource: an expansion that is whole, or a definition that lists codes
//! or names whole code systems. Nothing is looked up elsewhere.

use chartmesh_record::{FieldName, Node, Tree};

use crate::limits;
use crate::token::{TokenSought, TokenSystem};

/// The codes of a value set as it is stored.
///
/// # Errors
/// Says why they cannot be told.
pub fn codes(stored: &[u8]) -> Result<Vec<TokenSought>, &'static str> {
    let tree = Tree::parse(stored).ok_or("it is not a resource")?;
    let root = tree.root();
    let codes = match member(root, "expansion").filter(|it| member(*it, "contains").is_some()) {
        Some(expansion) => expanded(expansion)?,
        None => composed(root)?,
    };
    if codes.len() > limits::VALUE_SET_CODES { Err("it has too many codes") } else { Ok(codes) }
}

fn member<'t>(node: Node<'t>, name: &str) -> Option<Node<'t>> {
    node.member(&FieldName::new(name))
}

fn items<'t>(node: Node<'t>, name: &str) -> impl Iterator<Item = Node<'t>> {
    member(node, name).into_iter().flat_map(Node::items)
}

fn text(node: Node<'_>, name: &str) -> Option<String> {
    Some(member(node, name)?.text()?.into_owned())
}

fn token(system: Option<&str>, code: Option<String>) -> TokenSought {
    let system = system.map_or(TokenSystem::Any, |system| TokenSystem::Is(system.to_owned()));
    TokenSought { system, value: code }
}

fn expanded(expansion: Node<'_>) -> Result<Vec<TokenSought>, &'static str> {
    let mut codes = Vec::new();
    let mut waiting: Vec<_> = items(expansion, "contains").collect();
    while let Some(it) = waiting.pop() {
        waiting.extend(items(it, "contains"));
        let is_code = text(it, "abstract").as_deref() != Some("true");
        if let Some(code) = text(it, "code").filter(|_| is_code) {
            codes.push(token(text(it, "system").as_deref(), Some(code)));
        }
    }
    let total = text(expansion, "total").and_then(|total| total.parse::<usize>().ok());
    if total.is_some_and(|total| total > codes.len()) {
        return Err("its expansion is one page of several");
    }
    Ok(codes)
}

fn composed(root: Node<'_>) -> Result<Vec<TokenSought>, &'static str> {
    let compose = member(root, "compose").ok_or("it has neither an expansion nor a definition")?;
    let mut codes = Vec::new();
    for include in items(compose, "include") {
        codes.extend(included(include)?);
    }
    for exclude in items(compose, "exclude") {
        let excluded = included(exclude)?;
        if codes.iter().chain(&excluded).any(|code| code.value.is_none()) {
            return Err("it excludes codes, and it or they are not listed one by one");
        }
        codes.retain(|code| !excluded.contains(code));
    }
    Ok(codes)
}

fn included(include: Node<'_>) -> Result<Vec<TokenSought>, &'static str> {
    if items(include, "filter").chain(items(include, "valueSet")).next().is_some() {
        return Err("it is defined by filters or by other value sets, and not expanded here");
    }
    let system = text(include, "system").ok_or("a part of it names no code system")?;
    let listed: Vec<_> = items(include, "concept")
        .filter_map(|concept| Some(token(Some(&system), Some(text(concept, "code")?))))
        .collect();
    Ok(if listed.is_empty() { vec![token(Some(&system), None)] } else { listed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stored: &str) -> Result<Vec<String>, &'static str> {
        let show = |token: TokenSought| match token {
            TokenSought { system: TokenSystem::Is(system), value } => {
                format!("{system}|{}", value.unwrap_or_default())
            }
            TokenSought { value, .. } => value.unwrap_or_default(),
        };
        Ok(codes(stored.as_bytes())?.into_iter().map(show).collect())
    }

    #[test]
    fn codes_are_listed_or_all_of_a_system_less_those_excluded() {
        let listed = r#"{"compose":{"include":[{"system":"a","concept":[{"code":"1"},{"code":"2"}]},{"system":"b","concept":[{"code":"1"}]}],"exclude":[{"system":"a","concept":[{"code":"2"}]}]}}"#;
        assert_eq!(shown(listed), Ok(vec!["a|1".to_owned(), "b|1".to_owned()]));
        assert_eq!(shown(r#"{"compose":{"include":[{"system":"a"}]}}"#), Ok(vec!["a|".to_owned()]));
    }

    #[test]
    fn an_expansion_counts_before_the_definition_if_it_is_whole() {
        let contains =
            r#"[{"system":"a","code":"1","abstract":true,"contains":[{"system":"a","code":"2"}]}]"#;
        let with = |total| {
            format!(
                r#"{{"compose":{{"include":[{{"system":"b"}}]}},"expansion":{{"total":{total},"contains":{contains}}}}}"#
            )
        };
        assert_eq!(shown(&with(1)), Ok(vec!["a|2".to_owned()]));
        assert!(shown(&with(2)).is_err());
    }

    #[test]
    fn what_would_have_to_be_looked_up_elsewhere_is_refused() {
        for include in [r#"{"valueSet":["v"]}"#, r#"{"system":"a","filter":[{"property":"p"}]}"#] {
            assert!(shown(&format!(r#"{{"compose":{{"include":[{include}]}}}}"#)).is_err());
        }
        assert!(shown("{}").is_err());
    }
}
