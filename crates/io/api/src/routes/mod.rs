//! The routes, by what they are about.

pub(crate) mod chain;
pub(crate) mod duty;
pub(crate) mod events;
pub(crate) mod evidence;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod openapi;
pub(crate) mod tx;

use crate::app::App;
use crate::backend::Backend;
use crate::reply::Refusal;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use std::sync::Arc;

/// A new route that only answers GET.
fn read<B: Backend, T: 'static>(
    handler: impl axum::handler::Handler<T, Arc<App<B>>>,
) -> MethodRouter<Arc<App<B>>> {
    get(handler).fallback(wrong_method)
}

/// A new route that only answers POST.
fn write<B: Backend, T: 'static>(
    handler: impl axum::handler::Handler<T, Arc<App<B>>>,
) -> MethodRouter<Arc<App<B>>> {
    on(MethodFilter::POST, handler).fallback(wrong_method)
}

async fn wrong_method() -> Refusal {
    crate::guard::wrong_method("this route has no such method")
}
