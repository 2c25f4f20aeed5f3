mod admission;
mod parts;
mod sharing;
mod simple;
mod stops;
mod wishes;
