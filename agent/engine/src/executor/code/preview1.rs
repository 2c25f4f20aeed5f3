//! WASI preview 1 by its functions and their types, to look at modules with.

use wasmparser::{FuncType, ValType};

/// The module that they are imported from.
pub(in crate::executor) const MODULE: &str = "wasi_snapshot_preview1";

/// Every function with its parameters and its result: `i` is an `i32`, `I` an `i64`.
const FUNCTIONS: [(&str, &str, &str); 46] = [
    ("args_get", "ii", "i"),
    ("args_sizes_get", "ii", "i"),
    ("clock_res_get", "ii", "i"),
    ("clock_time_get", "iIi", "i"),
    ("environ_get", "ii", "i"),
    ("environ_sizes_get", "ii", "i"),
    ("fd_advise", "iIIi", "i"),
    ("fd_allocate", "iII", "i"),
    ("fd_close", "i", "i"),
    ("fd_datasync", "i", "i"),
    ("fd_fdstat_get", "ii", "i"),
    ("fd_fdstat_set_flags", "ii", "i"),
    ("fd_fdstat_set_rights", "iII", "i"),
    ("fd_filestat_get", "ii", "i"),
    ("fd_filestat_set_size", "iI", "i"),
    ("fd_filestat_set_times", "iIIi", "i"),
    ("fd_pread", "iiiIi", "i"),
    ("fd_prestat_dir_name", "iii", "i"),
    ("fd_prestat_get", "ii", "i"),
    ("fd_pwrite", "iiiIi", "i"),
    ("fd_read", "iiii", "i"),
    ("fd_readdir", "iiiIi", "i"),
    ("fd_renumber", "ii", "i"),
    ("fd_seek", "iIii", "i"),
    ("fd_sync", "i", "i"),
    ("fd_tell", "ii", "i"),
    ("fd_write", "iiii", "i"),
    ("path_create_directory", "iii", "i"),
    ("path_filestat_get", "iiiii", "i"),
    ("path_filestat_set_times", "iiiiIIi", "i"),
    ("path_link", "iiiiiii", "i"),
    ("path_open", "iiiiiIIii", "i"),
    ("path_readlink", "iiiiii", "i"),
    ("path_remove_directory", "iii", "i"),
    ("path_rename", "iiiiii", "i"),
    ("path_symlink", "iiiii", "i"),
    ("path_unlink_file", "iii", "i"),
    ("poll_oneoff", "iiii", "i"),
    ("proc_exit", "i", ""),
    ("proc_raise", "i", "i"),
    ("random_get", "ii", "i"),
    ("sched_yield", "", "i"),
    ("sock_accept", "iii", "i"),
    ("sock_recv", "iiiiii", "i"),
    ("sock_send", "iiiii", "i"),
    ("sock_shutdown", "ii", "i"),
];

/// The type of a function, if there is one of that name.
pub(in crate::executor) fn type_of(name: &str) -> Option<FuncType> {
    let (_, parameters, results) = FUNCTIONS.iter().find(|(known, ..)| *known == name)?;
    Some(FuncType::new(types(parameters), types(results)))
}

fn types(letters: &str) -> impl Iterator<Item = ValType> {
    letters.bytes().map(|letter| if letter == b'i' { ValType::I32 } else { ValType::I64 })
}

/// A type as the text format has it.
pub(in crate::executor) fn in_words(ty: &FuncType) -> String {
    let part = |word: &str, types: &[ValType]| {
        let types: String = types.iter().map(|ty| format!(" {ty}")).collect();
        if types.is_empty() { String::new() } else { format!(" ({word}{types})") }
    };
    format!("(func{}{})", part("param", ty.params()), part("result", ty.results()))
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, ExternType, Linker, Store};
    use wasmtime_wasi::{
        WasiCtxBuilder,
        p1::{self, WasiP1Ctx},
    };

    use super::*;

    #[test]
    fn every_function_has_the_type_that_the_engine_gives_it() {
        let engine = Engine::default();
        let mut linker = Linker::<WasiP1Ctx>::new(&engine);
        p1::add_to_linker_async(&mut linker, |wasi| wasi).expect("nothing else is there");
        let mut store = Store::new(&engine, WasiCtxBuilder::new().build_p1());
        let letters = |types: &mut dyn Iterator<Item = wasmtime::ValType>| -> String {
            types.map(|ty| if ty.is_i32() { 'i' } else { 'I' }).collect()
        };
        let offered: Vec<_> =
            linker.iter(&mut store).map(|(module, name, item)| (module.to_owned(), name.to_owned(), item)).collect();
        assert_eq!(offered.len(), FUNCTIONS.len());
        for (module, name, item) in offered {
            let ExternType::Func(ty) = item.ty(&store) else { panic!("`{name}` is a function") };
            let known = FUNCTIONS.iter().find(|(known, ..)| *known == name).unwrap_or_else(|| panic!("`{name}` is missing"));
            let found = (letters(&mut ty.params()), letters(&mut ty.results()));
            assert_eq!((known.1, known.2), (found.0.as_str(), found.1.as_str()), "{module}::{name}");
        }
    }

    #[test]
    fn a_type_is_written_as_in_the_text_format() {
        let of = |name| in_words(&type_of(name).expect("it is there"));
        assert_eq!(of("fd_seek"), "(func (param i32 i64 i32 i32) (result i32))");
        assert_eq!(of("proc_exit"), "(func (param i32))");
        assert_eq!(of("sched_yield"), "(func (result i32))");
    }
}
