//! What JSON says, as Python's objects, without a detour by Python's own parser.

use std::fmt;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use pyo3::{BoundObject, intern};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The most names of members that are recognized; more are made anew each time.
const MAX_NAMES: usize = 32;

/// A float from here on may have been a whole number, which Python reads in full.
const WHOLE: f64 = 9_223_372_036_854_775_808.0;

/// What texts of JSON say, as a list.
///
/// # Errors
/// As `json.loads`.
pub(crate) fn objects<'py>(py: Python<'py>, texts: &[Arc<str>]) -> PyResult<Bound<'py, PyList>> {
    let mut names = Names {
        py,
        known: Vec::new(),
    };
    let list = PyList::empty(py);
    for text in texts {
        let mut reader = serde_json::Deserializer::from_str(text);
        match (Value { names: &mut names }).deserialize(&mut reader) {
            Ok(object) => list.append(object)?,
            // A number that is too large, or no JSON: it knows, and says so.
            Err(_) => {
                let json = py.import(intern!(py, "json"))?;
                list.append(json.call_method1(intern!(py, "loads"), (&**text,))?)?;
            }
        }
    }
    Ok(list)
}

/// The names of members: most come in every object of a list.
struct Names<'de, 'py> {
    py: Python<'py>,
    known: Vec<(&'de str, Bound<'py, PyString>)>,
}

/// One value.
struct Value<'a, 'de, 'py> {
    names: &'a mut Names<'de, 'py>,
}

/// The name of a member.
struct Name<'a, 'de, 'py> {
    names: &'a mut Names<'de, 'py>,
}

impl<'de, 'py> DeserializeSeed<'de> for Value<'_, 'de, 'py> {
    type Value = Bound<'py, PyAny>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'py> Value<'_, '_, 'py> {
    fn object<T: IntoPyObject<'py>, E: Error>(self, value: T) -> Result<Bound<'py, PyAny>, E> {
        let object = value.into_pyobject(self.names.py).map_err(|error| {
            let error: PyErr = error.into();
            E::custom(error)
        })?;
        Ok(object.into_any().into_bound())
    }
}

impl<'de, 'py> Visitor<'de> for Value<'_, 'de, 'py> {
    type Value = Bound<'py, PyAny>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.object(None::<bool>)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        self.object(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        self.object(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        self.object(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        if value.abs() >= WHOLE {
            return Err(E::custom("a large number"));
        }
        self.object(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(PyString::new(self.names.py, value).into_any())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Names { py, .. } = *self.names;
        let list = PyList::empty(py);
        while let Some(item) = items.next_element_seed(Value { names: self.names })? {
            list.append(item).map_err(A::Error::custom)?;
        }
        Ok(list.into_any())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let dict = PyDict::new(self.names.py);
        while let Some(name) = members.next_key_seed(Name { names: self.names })? {
            let value = members.next_value_seed(Value { names: self.names })?;
            dict.set_item(name, value).map_err(A::Error::custom)?;
        }
        Ok(dict.into_any())
    }
}

impl<'de, 'py> DeserializeSeed<'de> for Name<'_, 'de, 'py> {
    type Value = Bound<'py, PyString>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de, 'py> Visitor<'de> for Name<'_, 'de, 'py> {
    type Value = Bound<'py, PyString>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
        let Names { py, known } = self.names;
        if let Some((_, object)) = known.iter().find(|(other, _)| *other == name) {
            return Ok(object.clone());
        }
        let object = PyString::new(*py, name);
        if known.len() < MAX_NAMES {
            known.push((name, object.clone()));
        }
        Ok(object)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(PyString::new(self.names.py, name))
    }
}
