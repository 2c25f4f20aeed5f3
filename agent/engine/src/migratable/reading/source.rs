//! A module taken apart: what the pass must know of it, and its sections as they came.

use std::{collections::BTreeMap, ops::Range};

use wasmparser::{
    Export, ExternalKind, FuncToValidate, FuncType, FuncValidator, FuncValidatorAllocations, FunctionBody, GlobalType, Import,
    Parser, Payload, TypeRef, ValidPayload, Validator, ValidatorResources,
};

use crate::migratable::{
    contract,
    reading::reason::{ACCEPTED, NotMovable},
};

/// Numbers of sections as the binary format has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::migratable) enum SectionId {
    Type = 1,
    Import = 2,
    Function = 3,
    Table = 4,
    Memory = 5,
    Global = 6,
    Export = 7,
    Element = 9,
    Data = 11,
    DataCount = 12,
}

/// A module, parsed and found acceptable.
pub(in crate::migratable) struct Source<'a> {
    pub bytes: &'a [u8],
    pub types: Vec<FuncType>,
    /// The type of each function, imported ones first.
    pub functions: Vec<u32>,
    /// How many of the functions are imported.
    pub imported: u32,
    pub globals: Vec<GlobalType>,
    pub memories: u32,
    pub tables: u32,
    pub exports: Vec<Export<'a>>,
    /// The start section's function.
    pub start: Option<u32>,
    /// The command's entry.
    pub entry: u32,
    pub bodies: Vec<Body<'a>>,
    sections: BTreeMap<SectionId, Range<usize>>,
}

/// A function that the module defines.
pub(in crate::migratable) struct Body<'a> {
    pub code: FunctionBody<'a>,
    validate: FuncToValidate<ValidatorResources>,
}

impl Body<'_> {
    /// What reads the function once more, knowing the types of all operands.
    pub(crate) fn validator(&self, allocations: FuncValidatorAllocations) -> FuncValidator<ValidatorResources> {
        let FuncToValidate { resources, index, ty, features } = &self.validate;
        let again = FuncToValidate { resources: resources.clone(), index: *index, ty: *ty, features: *features };
        again.into_validator(allocations)
    }
}

impl<'a> Source<'a> {
    /// Parses a module that [`crate::migratable::reading::reason::validate`] accepted.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, NotMovable> {
        let mut source = Self {
            bytes,
            types: Vec::new(),
            functions: Vec::new(),
            imported: 0,
            globals: Vec::new(),
            memories: 0,
            tables: 0,
            exports: Vec::new(),
            start: None,
            entry: 0,
            bodies: Vec::new(),
            sections: BTreeMap::new(),
        };
        let mut validator = Validator::new_with_features(ACCEPTED);
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            match validator.payload(&payload)? {
                ValidPayload::Func(validate, code) => source.bodies.push(Body { code, validate }),
                _ => source.see(payload)?,
            }
        }
        source.entry = source.find_entry().ok_or(NotMovable::NoStart)?;
        Ok(source)
    }

    /// The content of a section with its count, if the module has it.
    pub(crate) fn section(&self, id: SectionId) -> Option<&'a [u8]> {
        self.sections.get(&id).and_then(|range| self.bytes.get(range.clone()))
    }

    /// The type of a function, by its index among all.
    pub(crate) fn type_of(&self, function: u32) -> &FuncType {
        &self.types[self.functions[function as usize] as usize]
    }

    fn see(&mut self, payload: Payload<'a>) -> Result<(), NotMovable> {
        match payload {
            Payload::TypeSection(section) => {
                self.sections.insert(SectionId::Type, section.range());
                for ty in section.into_iter_err_on_gc_types() {
                    self.types.push(ty?);
                }
            }
            Payload::ImportSection(section) => {
                self.sections.insert(SectionId::Import, section.range());
                for import in section.into_imports() {
                    self.import(import?)?;
                }
            }
            Payload::FunctionSection(section) => {
                self.sections.insert(SectionId::Function, section.range());
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(section) => {
                self.sections.insert(SectionId::Table, section.range());
                self.tables = section.count();
            }
            Payload::MemorySection(section) => {
                self.sections.insert(SectionId::Memory, section.range());
                self.memories = section.count();
            }
            Payload::GlobalSection(section) => {
                self.sections.insert(SectionId::Global, section.range());
                for global in section {
                    let ty = global?.ty;
                    if ty.mutable && ty.content_type.is_reference_type() {
                        return Err(NotMovable::References);
                    }
                    self.globals.push(ty);
                }
            }
            Payload::ExportSection(section) => {
                self.sections.insert(SectionId::Export, section.range());
                for export in section {
                    let export = export?;
                    if export.name.starts_with(contract::PREFIX) {
                        return Err(NotMovable::Reserved { name: export.name.into() });
                    }
                    self.exports.push(export);
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(section) => drop(self.sections.insert(SectionId::Element, section.range())),
            Payload::DataSection(section) => drop(self.sections.insert(SectionId::Data, section.range())),
            Payload::DataCountSection { range, .. } => drop(self.sections.insert(SectionId::DataCount, range)),
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, import: Import<'_>) -> Result<(), NotMovable> {
        if import.module.starts_with(contract::PREFIX) {
            return Err(NotMovable::Reserved { name: import.module.into() });
        }
        let TypeRef::Func(ty) = import.ty else {
            return Err(NotMovable::Import { import: format!("{}::{}", import.module, import.name) });
        };
        self.functions.push(ty);
        self.imported += 1;
        Ok(())
    }

    fn find_entry(&self) -> Option<u32> {
        let entry = self.exports.iter().find(|export| export.name == "_start" && export.kind == ExternalKind::Func)?.index;
        let ty = self.type_of(entry);
        (ty.params().is_empty() && ty.results().is_empty() && entry >= self.imported).then_some(entry)
    }
}
