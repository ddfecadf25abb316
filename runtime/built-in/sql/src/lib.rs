//! The built-in module `lockstep:sql`. Modules of steps call it for `sql!`, so that they need not contain a query engine.

mod rows;

use std::sync::Arc;

use datafusion::common::config::Dialect;
use datafusion::common::{ParamValues, ScalarValue, TableReference};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::{SessionStateBuilder, SessionStateDefaults};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use lockstep::prelude::*;
use rows::Rows;

/// Maximum number of rows that operators get at once. A table is in memory as one batch, which would make intermediate results as
/// large as the table.
const BATCH: usize = 8192;

/// The result of a query. An error is an output too, so that the caller gets it as a value and not in the log.
#[derive(Outputs)]
pub struct Answer {
    /// the rows; empty after an error
    rows: Rows,
    /// the error; empty after success
    error: Text,
}

/// Run a SQL query.
#[step]
pub fn query(
    /// the tables, by name
    tables: Directory,
    /// the values of `$name` in the query: one row
    values: Rows,
    /// one `select` statement
    query: Param<String>,
) -> Answer {
    let (rows, error) = match execute(&tables, &values, &query) {
        Ok(rows) => (rows, String::new()),
        Err(error) => (Rows::default(), format!("{error:#}")),
    };
    Answer {
        rows,
        error: Text(error),
    }
}

fn execute(tables: &Directory, values: &Rows, query: &str) -> Result<Rows> {
    let context = context();
    for name in tables.files()? {
        let table = tables.read::<Rows>(&name)?;
        register(&context, &name, &table).map_err(|error| plain(&error)).with_context(|| format!("table `{name}`"))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(rows(&context, query, values)).map_err(|error| plain(&error))
}

/// One partition, so that sums of floats and the order of rows depend on nothing but the tables. Names are matched as they are
/// written, since columns of CSV files often have capital letters. All functions, but no formats of files: there are none to read.
fn context() -> SessionContext {
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_batch_size(BATCH)
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(Arc::default())
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(SessionStateDefaults::default_scalar_functions())
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_table_function_list(SessionStateDefaults::default_table_functions())
        .build();
    SessionContext::new_with_state(state)
}

fn register(context: &SessionContext, name: &str, table: &Rows) -> Result<(), DataFusionError> {
    let slices = table.batches.iter().flat_map(|batch| {
        let starts = (0..batch.num_rows()).step_by(BATCH);
        starts.map(|start| batch.slice(start, BATCH.min(batch.num_rows() - start)))
    });
    let table = MemTable::try_new(table.schema.clone(), vec![slices.collect()])?;
    context.register_table(TableReference::bare(name), Arc::new(table))?;
    Ok(())
}

async fn rows(context: &SessionContext, query: &str, values: &Rows) -> Result<Rows, DataFusionError> {
    let only_queries = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    let state = context.state();
    let statement = state.sql_to_statement(query, &Dialect::Generic)?;
    for table in state.resolve_table_references(&statement)? {
        if !context.table_exist(table.clone())? {
            let text = format!("the query has no table `{table}`: write {{{table}}} for the variable");
            return Err(DataFusionError::Plan(text));
        }
    }
    let plan = state.statement_to_plan(statement).await?;
    only_queries.verify_plan(&plan)?;
    let mut frame = DataFrame::new(state, plan);
    if !values.schema.fields().is_empty() {
        frame = frame.with_param_values(parameters(values)?)?;
    }
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await?;
    Rows { schema, batches }.without_views()
}

fn parameters(values: &Rows) -> Result<ParamValues, DataFusionError> {
    let columns = values.batches.iter().flat_map(|batch| batch.columns());
    let named = values.schema.fields().iter().zip(columns);
    let named = named.map(|(field, column)| Ok((field.name().clone(), ScalarValue::try_from_array(column, 0)?)));
    Ok(ParamValues::from(named.collect::<Result<Vec<_>, DataFusionError>>()?))
}

/// Returns the message of an error without the names of the engine's own kinds of errors.
fn plain(error: &DataFusionError) -> Error {
    Error::msg(error.find_root().message().into_owned())
}
