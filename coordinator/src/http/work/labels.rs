//! Labels of versions: what they stand for, giving one to another version, and taking that back.

use axum::{Json, extract::State};
use lull_shared::amount::quoted;

use crate::{
    api::{LabelBody, LabelRequest, Page, shape},
    clock,
    http::{
        Interface, Shared,
        door::{
            auth::{At, Body, Publisher, Viewer},
            error::{Answer, Refused},
        },
        work::functions,
    },
    store::record::{LabelRecord, NewLabel},
    version::{Which, check_label},
};

/// Labels of one function: stable, next, one for each customer.
const LABELS_MAX: usize = 32;
/// Steps that are shown, and that a rollback looks through.
const STEPS_MAX: u32 = 200;
/// So often is something decided anew because others were faster.
const TRIES_MAX: usize = 8;

/// `GET /functions/{name}/labels/{label}`: what it has stood for, the newest first.
pub(crate) async fn show(
    State(state): Shared,
    _viewer: Viewer,
    At((name, label)): At<(String, String)>,
) -> Answer<Json<Page<LabelBody>>> {
    let steps = state.coordinator.store.label_moves(&name, &label, STEPS_MAX).await?;
    if steps.is_empty() {
        functions::named(&state, &name, &Which::Label(label)).await?;
    }
    Ok(Json(Page::whole(steps.into_iter().map(shape::label).collect())))
}

/// `POST /functions/{name}/labels/{label}`
pub(crate) async fn promote(
    State(state): Shared,
    caller: Publisher,
    At((function, label)): At<(String, String)>,
    Body(wanted): Body<LabelRequest>,
) -> Answer<Json<LabelBody>> {
    if let Err(why) = check_label(&label) {
        return Err(Refused::field("label", &why.told(&label, "a label")));
    }
    for _ in 0..TRIES_MAX {
        let version = functions::named(&state, &function, &Which::Number(wanted.number)).await?;
        let newest = newest(&state, &function, &label).await?;
        if let Some(newest) = newest.as_ref().filter(|newest| newest.number == version.number) {
            return Ok(Json(LabelBody { before: Some(newest.number), ..shape::label(newest.clone()) }));
        }
        if newest.is_none() {
            check_room(&state, &function).await?;
        }
        let step = newest.as_ref().map(|newest| newest.step);
        let new = NewLabel {
            function: function.clone(),
            label: label.clone(),
            number: version.number,
            follows: step.unwrap_or(0),
            before: step,
            back: false,
            by: caller.who(),
            at: clock::now(),
        };
        if let Some(body) = moved(&state, new, newest.map(|newest| newest.number)).await? {
            return Ok(Json(body));
        }
    }
    Err(contended())
}

/// `POST /functions/{name}/labels/{label}/rollback`
pub(crate) async fn rollback(
    State(state): Shared,
    caller: Publisher,
    At((function, label)): At<(String, String)>,
) -> Answer<Json<LabelBody>> {
    for _ in 0..TRIES_MAX {
        let steps = state.coordinator.store.label_moves(&function, &label, STEPS_MAX).await?;
        let Some(newest) = steps.first() else {
            functions::named(&state, &function, &Which::Label(label.clone())).await?;
            return Err(contended());
        };
        let versions = state.coordinator.store.versions().await?;
        let is_there = |number: u32| versions.iter().any(|version| version.function == function && version.number == number);
        let Some(back) = before(&steps, is_there) else {
            return Err(Refused::conflict(
                format!("{label} of {} stood for no other version before that is still there", quoted(&function)),
                format!("`lull func promote {function}@NUMBER --label {label}` lets it stand for one"),
            ));
        };
        let new = NewLabel {
            function: function.clone(),
            label: label.clone(),
            number: back.number,
            follows: newest.step,
            before: back.before,
            back: true,
            by: caller.who(),
            at: clock::now(),
        };
        if let Some(body) = moved(&state, new, Some(newest.number)).await? {
            return Ok(Json(body));
        }
    }
    Err(contended())
}

/// The step that a rollback goes back to: the one before the newest, or before that one, whose version is still there.
fn before(steps: &[LabelRecord], is_there: impl Fn(u32) -> bool) -> Option<&LabelRecord> {
    let newest = steps.first()?;
    let mut wanted = newest.before;
    // A step refers to an earlier one only, so that this ends.
    while let Some(step) = wanted {
        let found = steps.iter().find(|found| found.step == step)?;
        if is_there(found.number) && found.number != newest.number {
            return Some(found);
        }
        wanted = found.before.filter(|before| *before < step);
    }
    None
}

async fn newest(state: &Interface, function: &str, label: &str) -> Answer<Option<LabelRecord>> {
    Ok(state.coordinator.store.label_moves(function, label, 1).await?.into_iter().next())
}

async fn check_room(state: &Interface, function: &str) -> Answer<()> {
    let labels = state.coordinator.store.labels().await?;
    let own: Vec<&str> = labels.iter().filter(|label| label.function == function).map(|label| label.label.as_str()).collect();
    if own.len() < LABELS_MAX {
        return Ok(());
    }
    Err(Refused::conflict(
        format!("{} has {LABELS_MAX} labels, and no more are given", quoted(function)),
        format!("use one of them again: {}", own.join(", ")),
    ))
}

/// What the label stands for now; nothing if others were faster.
async fn moved(state: &Interface, new: NewLabel, before: Option<u32>) -> Answer<Option<LabelBody>> {
    let (function, label) = (new.function.clone(), new.label.clone());
    if !state.coordinator.store.move_label(&state.coordinator.lead, new).await? {
        return Ok(None);
    }
    let newest = newest(state, &function, &label).await?;
    Ok(newest.map(|newest| LabelBody { before, ..shape::label(newest) }))
}

fn contended() -> Refused {
    Refused::busy("others move this label at the same time".to_owned())
}

#[cfg(test)]
mod tests {
    use lull_shared::time::Timestamp;

    use super::*;

    fn step(step: u64, number: u32, before: Option<u64>) -> LabelRecord {
        let (function, label, moved) = ("stats".into(), "stable".into(), Timestamp::from_millis(step as i64));
        LabelRecord { step, function, label, number, before, moved, moved_by: "ann".into() }
    }

    #[test]
    fn a_rollback_goes_back_step_by_step_and_passes_what_was_removed() {
        let all = [step(4, 4, Some(3)), step(3, 3, Some(2)), step(2, 2, Some(1)), step(1, 1, None)];
        let number =
            |steps: &[LabelRecord], removed: &[u32]| before(steps, |number| !removed.contains(&number)).map(|found| found.number);
        assert_eq!(number(&all, &[]), Some(3));
        assert_eq!(number(&all, &[3]), Some(2));
        assert_eq!(number(&all, &[1, 2, 3]), None);
        let once_back = [&[step(5, 3, Some(2))][..], &all].concat();
        assert_eq!(number(&once_back, &[]), Some(2), "and not to the one that was left");
        assert_eq!(number(&all[3..], &[]), None, "there was none before");
        assert_eq!(number(&[], &[]), None);
    }
}
