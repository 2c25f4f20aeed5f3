//! Finds places for faults: reads a file's syntax and says which text would stand there instead.
//!
//! Every fault is behind a question, so that one build holds many and an environment variable chooses: `a < b` becomes
//! `(if FAULT { a <= b } else { a < b })`.

use std::{ops::Range, path::Path};

use anyhow::Context as _;
use syn::{
    Arm, Attribute, BinOp, Expr, ExprBinary, ExprIf, ExprLit, ExprMethodCall, ExprRepeat, ExprUnary, ImplItemFn, ItemConst,
    ItemFn, ItemMod, ItemStatic, Lit, Meta, Pat, Stmt, Type, UnOp,
    spanned::Spanned,
    visit::{self, Visit},
};

/// Stands in a fault's text for the question whether it is the chosen one.
pub const QUESTION: &str = "\u{1}";

/// One fault that could be there.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The file, from the repository's root.
    pub file: String,
    /// The line at which it begins, from 1.
    pub line: usize,
    /// The bytes that it replaces.
    pub range: Range<usize>,
    /// What stands there then, with [`QUESTION`] in it.
    pub text: String,
    /// For people, and to find it again: what is wrong.
    pub what: String,
}

/// The faults of one file, in the order of the text, and the modules that are for tests only (`mod tests;`).
///
/// # Errors
/// The file is not Rust.
pub fn faults(file: &str, text: &str) -> anyhow::Result<(Vec<Fault>, Vec<String>)> {
    let syntax = syn::parse_file(text).with_context(|| format!("cannot read {file}"))?;
    let mut finder = Finder { file, text, faults: Vec::new(), tests: Vec::new() };
    finder.visit_file(&syntax);
    finder.faults.sort_by_key(|fault| (fault.range.start, fault.range.end));
    Ok((finder.faults, finder.tests))
}

/// Where the modules that a file declares lie.
pub fn module_paths(file: &str, module: &str) -> [String; 2] {
    let path = Path::new(file);
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let folder = path.parent().map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = if ["mod", "lib", "main"].contains(&stem) { folder } else { format!("{folder}/{stem}") };
    [format!("{folder}/{module}.rs"), format!("{folder}/{module}/")]
}

struct Finder<'a> {
    file: &'a str,
    text: &'a str,
    faults: Vec<Fault>,
    tests: Vec<String>,
}

impl Finder<'_> {
    fn text_of(&self, node: &impl Spanned) -> &str {
        &self.text[node.span().byte_range()]
    }

    fn add(&mut self, node: &impl Spanned, text: String, what: String) {
        let (range, line) = (node.span().byte_range(), node.span().start().line);
        let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
        self.faults.push(Fault { file: self.file.to_owned(), line, range, text, what });
    }

    /// `node` with another text in place of a part of it.
    fn choice(&mut self, node: &impl Spanned, part: Range<usize>, other: &str) {
        let (range, own) = (node.span().byte_range(), self.text_of(node).to_owned());
        let changed = format!("{}{other}{}", &self.text[range.start..part.start], &self.text[part.end..range.end]);
        let what = format!("`{own}` is `{changed}`");
        self.add(node, format!("(if {QUESTION} {{ {changed} }} else {{ {own} }})"), what);
    }

    fn operand(&mut self, operand: &Expr, joins: fn(&BinOp) -> bool, and: bool) {
        let same = matches!(operand, Expr::Binary(inner) if joins(&inner.op));
        if same || has_let(operand) {
            return;
        }
        let own = self.text_of(operand).to_owned();
        let (text, says) = if and {
            (format!("(({own}) || {QUESTION})"), "not asked, as if it held")
        } else {
            (format!("(({own}) && !{QUESTION})"), "not asked, as if it did not hold")
        };
        self.add(operand, text, format!("`{own}` is {says}"));
    }
}

fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        Expr::Paren(inner) => has_let(&inner.expr),
        _ => false,
    }
}

/// A branch that says something in the log and does nothing else: whether it is taken changes nothing.
fn only_logs(block: &syn::Block) -> bool {
    block.stmts.iter().all(|statement| match statement {
        Stmt::Macro(said) => said.mac.path.segments.first().is_some_and(|first| first.ident == "tracing"),
        _ => false,
    })
}

/// A function that looks whether everything adds up, for tests: a fault in it is none of the program's.
fn is_audit(file: &str, name: &syn::Ident) -> bool {
    let core = ["coordinator/scheduler/src/", "agent/session/src/"].iter().any(|path| file.starts_with(path));
    core && name.to_string().starts_with("audit")
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.segments.last().is_some_and(|last| last.ident == "test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.tokens.to_string().split([' ', '(', ')', ',']).any(|word| word == "test")
        }
        _ => false,
    })
}

/// A statement whose value nobody takes: what it does can be left out.
fn is_deed(expr: &Expr) -> bool {
    match expr {
        Expr::MethodCall(_) | Expr::Call(_) | Expr::Assign(_) => true,
        Expr::Binary(binary) => {
            use BinOp::{AddAssign, BitAndAssign, BitOrAssign, MulAssign, SubAssign};
            matches!(binary.op, AddAssign(_) | SubAssign(_) | MulAssign(_) | BitOrAssign(_) | BitAndAssign(_))
        }
        Expr::Try(inner) => is_deed(&inner.expr),
        Expr::Await(inner) => is_deed(&inner.base),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        } else if module.content.is_none() {
            self.tests.push(module.ident.to_string());
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if !is_test(&function.attrs) && function.sig.constness.is_none() && !is_audit(self.file, &function.sig.ident) {
            visit::visit_block(self, &function.block);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !is_test(&function.attrs) && function.sig.constness.is_none() && !is_audit(self.file, &function.sig.ident) {
            visit::visit_block(self, &function.block);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_test(&item.attrs) {
            item.items.iter().for_each(|item| self.visit_impl_item(item));
        }
    }

    // What must be known when the program is compiled cannot ask.
    fn visit_item_const(&mut self, _: &'ast ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_pat(&mut self, _: &'ast Pat) {}
    fn visit_type(&mut self, _: &'ast Type) {}
    fn visit_path(&mut self, _: &'ast syn::Path) {}
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_expr_repeat(&mut self, repeat: &'ast ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if let Stmt::Expr(expr, Some(_)) = statement
            && is_deed(expr)
        {
            let own = self.text_of(statement).to_owned();
            self.add(statement, format!("if !{QUESTION} {{ {own} }}"), format!("`{own}` is left out"));
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_expr_if(&mut self, branch: &'ast ExprIf) {
        if only_logs(&branch.then_branch) && branch.else_branch.is_none() {
            return;
        }
        if !has_let(&branch.cond) {
            let own = self.text_of(&*branch.cond).to_owned();
            self.add(&*branch.cond, format!("({own}) && !{QUESTION}"), format!("the branch `if {own}` is never taken"));
        }
        visit::visit_expr_if(self, branch);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        if let Some((_, guard)) = &arm.guard
            && !has_let(guard)
        {
            let own = self.text_of(&**guard).to_owned();
            self.add(&**guard, format!("(({own}) || {QUESTION})"), format!("the guard `if {own}` of an arm is not asked"));
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_binary(&mut self, binary: &'ast ExprBinary) {
        let other = match binary.op {
            BinOp::Lt(_) => "<=",
            BinOp::Le(_) => "<",
            BinOp::Gt(_) => ">=",
            BinOp::Ge(_) => ">",
            BinOp::Eq(_) => "!=",
            BinOp::Ne(_) => "==",
            _ => "",
        };
        if !other.is_empty() {
            self.choice(binary, binary.op.span().byte_range(), other);
        }
        match binary.op {
            BinOp::And(_) => {
                for operand in [&binary.left, &binary.right] {
                    self.operand(operand, |op| matches!(op, BinOp::And(_)), true);
                }
            }
            BinOp::Or(_) => {
                for operand in [&binary.left, &binary.right] {
                    self.operand(operand, |op| matches!(op, BinOp::Or(_)), false);
                }
            }
            BinOp::Add(_) | BinOp::Sub(_) => {
                let is_number = |expr: &Expr| matches!(expr, Expr::Lit(ExprLit { lit: Lit::Int(_), .. }));
                if is_number(&binary.right) {
                    let part = binary.left.span().byte_range().end..binary.right.span().byte_range().end;
                    self.choice(binary, part, "");
                }
            }
            _ => {}
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast ExprUnary) {
        if let UnOp::Not(not) = &unary.op {
            self.choice(unary, not.span().byte_range(), "");
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_lit(&mut self, literal: &'ast ExprLit) {
        if let Lit::Bool(value) = &literal.lit {
            let other = !value.value;
            self.add(literal, format!("({} ^ {QUESTION})", value.value), format!("`{}` is `{other}`", value.value));
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        let other = match call.method.to_string().as_str() {
            "min" => "max",
            "max" => "min",
            "any" => "all",
            "all" => "any",
            "is_some" => "is_none",
            "is_none" => "is_some",
            "is_ok" => "is_err",
            "is_err" => "is_ok",
            "saturating_add" => "saturating_sub",
            "saturating_sub" => "saturating_add",
            "first" => "last",
            "last" => "first",
            "pop_front" => "pop_back",
            "pop_back" => "pop_front",
            "min_by_key" => "max_by_key",
            "max_by_key" => "min_by_key",
            _ => "",
        };
        if !other.is_empty() {
            self.choice(call, call.method.span().byte_range(), other);
        } else if call.method == "is_empty" {
            let own = self.text_of(call).to_owned();
            self.add(call, format!("(({own}) ^ {QUESTION})"), format!("`{own}` is `!{own}`"));
        }
        visit::visit_expr_method_call(self, call);
    }
}
