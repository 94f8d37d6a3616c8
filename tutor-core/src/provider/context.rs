//! What travels with a request through the engine, providers and stores.
//!
//! It is passed explicitly: task-local state is lost at every spawn.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::id::OwnerId;

/// What every call of one request shares.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestContext {
    /// Whose request it is.
    pub owner: OwnerId,
    /// When the answer is of no use any more; `None` for no limit.
    pub deadline: Option<Instant>,
    /// Cancelled when nobody wants the answer any more.
    pub cancel: CancellationToken,
    /// The span to attach work to that runs on other tasks.
    pub span: tracing::Span,
    /// What a binding carries to its own providers and stores.
    pub extensions: Extensions,
}

impl RequestContext {
    /// A context without deadline.
    pub fn new(owner: OwnerId) -> Self {
        Self {
            owner,
            deadline: None,
            cancel: CancellationToken::new(),
            span: tracing::Span::none(),
            extensions: Extensions::default(),
        }
    }
}

impl Default for RequestContext {
    fn default() -> Self {
        Self::new(OwnerId::default())
    }
}

/// Where a request belongs in a trace: the value of the header `traceparent` of W3C Trace Context.
/// An extension; providers over HTTP send it along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent(pub String);

/// Values of any type, one per type. Cloning shares them.
#[derive(Clone, Default)]
pub struct Extensions(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Extensions {
    /// Puts `value` in, replacing an earlier one of the same type.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// Puts in what is shared already.
    pub fn insert_shared<T: Any + Send + Sync>(&mut self, value: Arc<T>) {
        self.0.insert(TypeId::of::<T>(), value);
    }

    /// The value of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.get(&TypeId::of::<T>()).cloned()?.downcast().ok()
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extensions({})", self.0.len())
    }
}
