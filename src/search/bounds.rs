//! Bounds of a query that are known before it runs.
//!
//! The library resolves introspection itself, so nothing counts its response. Aliases in fragments multiply from level to
//! level, and a short query would fill the memory. So its largest response is computed from the query and the schema.

use std::collections::{HashMap, HashSet};

use apollo_compiler::executable::{Field, Operation, Selection, SelectionSet};
use apollo_compiler::schema::ExtendedType;
use apollo_compiler::{ExecutableDocument, Schema};

use super::VALUE_BYTES;

/// The longest alias, in bytes. Each object of a list repeats it.
const NAME_BYTES_MAX: usize = 100;
/// The most values in a response to introspection, as if each list were the longest of its kind. Editors request about half
/// of them.
const INTROSPECTED_MAX: usize = 500_000;
/// The bytes of a name that count as one more value.
const NAME_BYTES: usize = 32;
/// The values that a description counts as, because its text is long.
const DESCRIPTION_VALUES: usize = 6;

/// Refuses aliases that are too long, and introspection with too large a response.
pub(super) fn check(document: &ExecutableDocument, operation: &Operation, lengths: &Lengths) -> Result<(), String> {
    let mut longest = 0;
    each_field(document, &mut |field| longest = longest.max(field.response_key().len()));
    if longest > NAME_BYTES_MAX {
        return Err(format!("an alias has at most {NAME_BYTES_MAX} bytes"));
    }
    let mut introspection = Introspection { document, lengths, fragments: HashMap::new() };
    if introspection.in_query(&operation.selection_set) > INTROSPECTED_MAX {
        return Err(format!("a response about the schema has at most {INTROSPECTED_MAX} values"));
    }
    Ok(())
}

/// The bytes of the type names in one object of the response. The library resolves them itself.
pub(super) fn type_name_bytes(document: &ExecutableDocument) -> usize {
    let mut keys = HashSet::new();
    each_field(document, &mut |field| {
        if field.name == "__typename" {
            keys.insert(field.response_key().as_str());
        }
    });
    keys.into_iter().map(|key| 2 * VALUE_BYTES + key.len()).sum()
}

/// Visits the fields of all operations and fragments, each once.
fn each_field<'a>(document: &'a ExecutableDocument, visit: &mut dyn FnMut(&'a Field)) {
    fn within<'a>(set: &'a SelectionSet, visit: &mut dyn FnMut(&'a Field)) {
        for selection in &set.selections {
            match selection {
                Selection::Field(field) => {
                    visit(field);
                    within(&field.selection_set, visit);
                }
                Selection::InlineFragment(inline) => within(&inline.selection_set, visit),
                Selection::FragmentSpread(_) => {}
            }
        }
    }
    for operation in document.operations.iter() {
        within(&operation.selection_set, visit);
    }
    for fragment in document.fragments.values() {
        within(&fragment.selection_set, visit);
    }
}

/// The longest lists of each kind in a schema.
#[derive(Debug)]
pub(super) struct Lengths {
    types: usize,
    fields: usize,
    input_fields: usize,
    arguments: usize,
    values: usize,
    directives: usize,
    locations: usize,
    related: usize,
}

impl Lengths {
    pub(super) fn of(schema: &Schema) -> Self {
        let directives = schema.directive_definitions.values();
        let mut lengths = Self {
            types: schema.types.len(),
            fields: 1,
            input_fields: 1,
            arguments: directives.clone().map(|directive| directive.arguments.len()).max().unwrap_or(1),
            values: 1,
            directives: schema.directive_definitions.len(),
            locations: directives.map(|directive| directive.locations.len()).max().unwrap_or(1),
            related: 1,
        };
        for definition in schema.types.values() {
            let fields = match definition {
                ExtendedType::Object(object) => &object.fields,
                ExtendedType::Interface(interface) => {
                    lengths.related = lengths.types;
                    &interface.fields
                }
                ExtendedType::Union(_) => {
                    lengths.related = lengths.types;
                    continue;
                }
                ExtendedType::InputObject(input) => {
                    lengths.input_fields = lengths.input_fields.max(input.fields.len());
                    continue;
                }
                ExtendedType::Enum(of) => {
                    lengths.values = lengths.values.max(of.values.len());
                    continue;
                }
                ExtendedType::Scalar(_) => continue,
            };
            lengths.fields = lengths.fields.max(fields.len());
            let arguments = fields.values().map(|field| field.arguments.len()).max();
            lengths.arguments = lengths.arguments.max(arguments.unwrap_or_default());
        }
        lengths
    }

    /// How many values a field of introspection has.
    fn of_field(&self, field: &str) -> usize {
        match field {
            "types" => self.types,
            "fields" => self.fields,
            "inputFields" => self.input_fields,
            "args" => self.arguments,
            "enumValues" => self.values,
            "directives" => self.directives,
            "locations" => self.locations,
            "interfaces" | "possibleTypes" => self.related,
            "description" => DESCRIPTION_VALUES,
            _ => 1,
        }
    }
}

/// Computes the largest response to introspection.
struct Introspection<'a> {
    document: &'a ExecutableDocument,
    lengths: &'a Lengths,
    /// The values in an object that spreads a fragment.
    fragments: HashMap<&'a str, usize>,
}

impl<'a> Introspection<'a> {
    /// The values below all `__schema` and `__type` of a query.
    fn in_query(&mut self, set: &'a SelectionSet) -> usize {
        let values = set.selections.iter().map(|selection| match selection {
            Selection::Field(field) if matches!(field.name.as_str(), "__schema" | "__type") => {
                self.in_object(&field.selection_set)
            }
            Selection::Field(_) => 0,
            Selection::InlineFragment(inline) => self.in_query(&inline.selection_set),
            // The number of spreads on a query is limited.
            Selection::FragmentSpread(spread) => {
                let fragment = self.document.fragments.get(&spread.fragment_name);
                fragment.map_or(0, |fragment| self.in_query(&fragment.selection_set))
            }
        });
        values.fold(0, usize::saturating_add)
    }

    /// The values in one object of the schema.
    fn in_object(&mut self, set: &'a SelectionSet) -> usize {
        let values = set.selections.iter().map(|selection| match selection {
            Selection::Field(field) => {
                let own = 1 + field.response_key().len() / NAME_BYTES;
                let each = own.saturating_add(self.in_object(&field.selection_set));
                each.saturating_mul(self.lengths.of_field(&field.name))
            }
            Selection::InlineFragment(inline) => self.in_object(&inline.selection_set),
            Selection::FragmentSpread(spread) => self.in_fragment(&spread.fragment_name),
        });
        values.fold(0, usize::saturating_add)
    }

    fn in_fragment(&mut self, name: &'a str) -> usize {
        if let Some(values) = self.fragments.get(name) {
            return *values;
        }
        let fragment = self.document.fragments.get(name);
        let values = fragment.map_or(0, |fragment| self.in_object(&fragment.selection_set));
        self.fragments.insert(name, values);
        values
    }
}
