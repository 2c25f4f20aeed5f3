mod hours;
mod wall;
