let x = 1;
:dep hex = "0.4"
fn f<T: Clone>(t: &T) -> T { t.clone() }
f(&x)