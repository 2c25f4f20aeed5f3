//! What people write and read: how it is read, what is said of it when it is wrong, and how it is shown.

pub mod alike;
pub mod amount;
pub mod bound;
pub mod codes;
pub mod constraint;
pub mod hint;
pub mod hours;
pub mod misread;
pub mod name;
pub mod numbers;
pub mod portal;
pub mod readable;
pub mod share;
pub mod shown;
pub mod window;
pub mod zone;
