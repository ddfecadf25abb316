use lockstep_runtime::sandbox::Interrupt;

use super::assistant::SessionAssistant;
use super::{Account, Session};
use crate::cell::Cell;
use crate::jupyter::{Assistant, Execute, Interpreter};
use crate::output::{CellError, MimeBundle, Output, Stream};

impl Interpreter for Session {
    fn execute(
        &mut self,
        cell: &Execute,
        output: &mut dyn Output,
        interrupt: &Interrupt,
    ) -> Result<Option<MimeBundle>, CellError> {
        self.forget(&cell.deleted_cells);
        let cell = Cell {
            id: cell.cell_id.clone(),
            code: cell.code.clone(),
            number: cell.number,
        };
        let mut done = self.execute(&cell, output, interrupt)?;
        if !done.stale.is_empty() {
            let stale: Vec<_> = done.stale.iter().map(|number| format!("[{number}]")).collect();
            let is = if stale.len() == 1 { "is" } else { "are" };
            done.notes.push(format!(
                "{} {is} stale because inputs have changed; re-run with `:run stale`",
                stale.join(", ")
            ));
        }
        for note in &done.notes {
            output.stream(Stream::Stderr, format!("note: {note}\n").as_bytes());
        }
        // Attach the account to the value, or send it alone: front ends ignore unknown media types, and notebooks keep them.
        if let (false, Ok(account)) = (done.account.is_empty(), serde_json::to_value(&done.account)) {
            let result = done.result.get_or_insert_default();
            result.data.insert(Account::MEDIA_TYPE.to_owned(), account);
        }
        Ok(done.result)
    }

    fn evaluate(&mut self, expression: &str, interrupt: &Interrupt) -> Result<MimeBundle, CellError> {
        Session::evaluate(self, expression, interrupt)
    }

    fn restart(&mut self) {
        Session::restart(self);
    }

    fn assistant(&self) -> Box<dyn Assistant> {
        Box::new(SessionAssistant::new(self.known.clone()))
    }
}
