pub(crate) mod keeping;
pub(crate) mod moving;
