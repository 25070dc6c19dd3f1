//! The calls of Stripe's API that the stand-in answers, and how it refuses others.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::account::{Account, public};
use super::objects::{self, set, written};
use super::wire::{Answer, Recorded};

/// Parameters of `POST /v1/checkout/sessions` under 2026-10-28.endive:
/// <https://docs.stripe.com/api/checkout/sessions/create>.
const SESSION_PARAMETERS: &[&str] = &[
    "adaptive_pricing",
    "after_expiration",
    "allow_promotion_codes",
    "allowed_payment_method_types",
    "automatic_tax",
    "billing_address_collection",
    "branding_settings",
    "cancel_url",
    "client_reference_id",
    "consent_collection",
    "currency",
    "custom_fields",
    "custom_text",
    "customer",
    "customer_account",
    "customer_creation",
    "customer_email",
    "customer_update",
    "discounts",
    "excluded_payment_method_types",
    "expand",
    "expires_at",
    "integration_identifier",
    "invoice_creation",
    "line_items",
    "locale",
    "managed_payments",
    "metadata",
    "mode",
    "name_collection",
    "optional_items",
    "origin_context",
    "payment_intent_data",
    "payment_method_collection",
    "payment_method_configuration",
    "payment_method_data",
    "payment_method_options",
    "permissions",
    "phone_number_collection",
    "redirect_on_completion",
    "return_url",
    "saved_payment_method_options",
    "setup_intent_data",
    "shipping_address_collection",
    "shipping_options",
    "submit_type",
    "subscription_data",
    "success_url",
    "tax_id_collection",
    "ui_mode",
    "wallet_options",
];
const LINE_PARAMETERS: &[&str] = &[
    "adjustable_quantity",
    "metadata",
    "price",
    "price_data",
    "quantity",
    "tax_rates",
];
const PRICE_PARAMETERS: &[&str] = &[
    "currency",
    "product",
    "product_data",
    "recurring",
    "tax_behavior",
    "unit_amount",
    "unit_amount_decimal",
];
const INTENT_PARAMETERS: &[&str] = &[
    "application_fee_amount",
    "capture_method",
    "description",
    "metadata",
    "on_behalf_of",
    "receipt_email",
    "setup_future_usage",
    "shipping",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_data",
    "transfer_group",
];
const OF_PAYMENT: &[&str] = &["charge", "payment_intent"];
const PAGING: &[&str] = &["limit", "starting_after", "ending_before", "expand"];

/// An error as Stripe writes it.
pub fn error(status: u16, kind: &str, code: &str, param: &str, message: &str) -> Answer {
    let mut error = json!({
        "message": message,
        "request_log_url": "https://dashboard.stripe.com/acct_1Fake/test/workbench/logs?object=req",
        "type": kind,
    });
    if !code.is_empty() {
        error["code"] = json!(code);
        let page = code.replace('_', "-");
        error["doc_url"] = json!(format!("https://docs.stripe.com/error-codes/{page}"));
    }
    if !param.is_empty() {
        error["param"] = json!(param);
    }
    Answer::json(status, written(&json!({"error": error})))
}

fn invalid(code: &str, param: &str, message: &str) -> Answer {
    error(400, "invalid_request_error", code, param, message)
}

/// The permission that a restricted key needs for a call.
pub fn permission(call: &str) -> &'static str {
    match call {
        "POST /v1/checkout/sessions" => "rak_checkout_session_write",
        "GET /v1/checkout/sessions/{id}" => "rak_checkout_session_read",
        "GET /v1/events" | "GET /v1/events/{id}" => "rak_event_read",
        "GET /v1/webhook_endpoints" | "GET /v1/webhook_endpoints/{id}" => "rak_webhook_read",
        "POST /v1/webhook_endpoints"
        | "POST /v1/webhook_endpoints/{id}"
        | "DELETE /v1/webhook_endpoints/{id}" => "rak_webhook_write",
        "GET /v1/payment_intents/{id}" => "rak_payment_intent_read",
        "GET /v1/invoices/{id}" | "GET /v1/invoice_payments" => "rak_invoice_read",
        "GET /v1/disputes" | "GET /v1/disputes/{id}" => "rak_dispute_read",
        "GET /v1/reviews/{id}" => "rak_review_read",
        _ => "rak_charge_read",
    }
}

/// Does what the request asks for.
pub fn answer(account: &mut Account, request: &Recorded) -> Answer {
    let id = request.path.rsplit('/').next().unwrap_or("");
    let result = match request.call().as_str() {
        "POST /v1/checkout/sessions" => create_session(account, request),
        "GET /v1/checkout/sessions/{id}" => retrieve(account, id, "checkout.session", "session"),
        "GET /v1/payment_intents/{id}" => retrieve(account, id, "payment_intent", "intent"),
        "GET /v1/charges/{id}" => retrieve(account, id, "charge", "id"),
        "GET /v1/events/{id}" => event(account, id),
        "GET /v1/events" => events(account, request),
        "GET /v1/charges" => list(account, request, "charge", &["customer", "payment_intent"]),
        "GET /v1/refunds" => list(account, request, "refund", OF_PAYMENT),
        "GET /v1/refunds/{id}" => retrieve(account, id, "refund", "refund"),
        "GET /v1/disputes" => list(account, request, "dispute", OF_PAYMENT),
        "GET /v1/disputes/{id}" => retrieve(account, id, "dispute", "dispute"),
        "GET /v1/invoices/{id}" => retrieve(account, id, "invoice", "invoice"),
        "GET /v1/invoice_payments" => {
            list(account, request, "invoice_payment", &["invoice", "status"])
        }
        "GET /v1/reviews/{id}" => retrieve(account, id, "review", "review"),
        "GET /v1/radar/early_fraud_warnings" => {
            list(account, request, "radar.early_fraud_warning", OF_PAYMENT)
        }
        "GET /v1/webhook_endpoints" => endpoints(account, request),
        "POST /v1/webhook_endpoints" => create_endpoint(account, request),
        "GET /v1/webhook_endpoints/{id}" => retrieve(account, id, "webhook_endpoint", "id"),
        "POST /v1/webhook_endpoints/{id}" => update_endpoint(account, id, request),
        "DELETE /v1/webhook_endpoints/{id}" => delete_endpoint(account, id),
        _ => Err(error(
            404,
            "invalid_request_error",
            "",
            "",
            &format!(
                "Unrecognized request URL ({}: {}). Please see https://docs.stripe.com or we can \
                 help at https://support.stripe.com/.",
                request.method, request.path
            ),
        )),
    };
    match result {
        Ok(value) => Answer::json(200, written(&value)),
        Err(refusal) => refusal,
    }
}

fn retrieve(account: &Account, id: &str, kind: &str, param: &str) -> Result<Value, Answer> {
    let object = account.objects.get(id);
    let object = object.filter(|object| object["object"] == kind);
    object
        .map(public)
        .ok_or_else(|| missing(404, kind, id, param))
}

fn event(account: &Account, id: &str) -> Result<Value, Answer> {
    let mut events = account.events.iter();
    let event = events.find(|event| event.id == id);
    event
        .map(|event| event.value.clone())
        .ok_or_else(|| missing(404, "event", id, "id"))
}

fn missing(status: u16, kind: &str, id: &str, param: &str) -> Answer {
    let message = format!("No such {kind}: '{id}'");
    error(
        status,
        "invalid_request_error",
        "resource_missing",
        param,
        &message,
    )
}

fn events(account: &Account, request: &Recorded) -> Result<Value, Answer> {
    let own = ["type", "types", "created", "delivery_success"];
    known(request, &[PAGING, &own[..]].concat())?;
    let types: Vec<&str> = request
        .form
        .iter()
        .filter(|(name, _)| name.starts_with("types["))
        .map(|(_, value)| value.as_str())
        .collect();
    if types.len() > 20 {
        return Err(invalid(
            "",
            "types",
            "You may only specify up to 20 values for types.",
        ));
    }
    if !types.is_empty() && request.field("type").is_some() {
        return Err(invalid(
            "",
            "types",
            "You may only specify one of these parameters: type, types.",
        ));
    }
    let type_fits = |kind: &str| match request.field("type") {
        Some(wanted) => wanted == kind,
        None => types.is_empty() || types.contains(&kind),
    };
    let second = |name: &str| request.field(name).map(str::parse::<i64>);
    let bound = |name: &str| match second(name) {
        Some(Ok(second)) => Ok(Some(second)),
        Some(Err(_)) => Err(invalid("", name, &format!("Invalid timestamp: {name}"))),
        None => Ok(None),
    };
    let (from, after) = (bound("created[gte]")?, bound("created[gt]")?);
    let (to, before) = (bound("created[lte]")?, bound("created[lt]")?);
    let success = request.field("delivery_success");
    let fits = account.recent_events().into_iter().filter(|event| {
        type_fits(&event.kind)
            && from.is_none_or(|from| event.created >= from)
            && after.is_none_or(|after| event.created > after)
            && to.is_none_or(|to| event.created <= to)
            && before.is_none_or(|before| event.created < before)
            && success.is_none_or(|success| event.is_pending == (success == "false"))
    });
    // A cursor may stand on an event that the filter leaves out.
    let places: Vec<String> = account
        .recent_events()
        .iter()
        .map(|event| event.id.clone())
        .collect();
    let fitting: Vec<&Value> = fits.map(|event| &event.value).collect();
    page(request, "event", &places, &fitting)
}

/// A list of objects that may be narrowed to those whose field of that name is the one asked for.
fn list(
    account: &Account,
    request: &Recorded,
    kind: &str,
    filters: &[&str],
) -> Result<Value, Answer> {
    known(request, &[PAGING, &["created"], filters].concat())?;
    let mut wanted = Vec::new();
    for name in filters {
        wanted.extend(request.field(name).map(|id| (*name, id)));
    }
    for (name, id) in &wanted {
        let is_object = !["status", "customer"].contains(name);
        if is_object
            && account
                .objects
                .get(*id)
                .is_none_or(|object| object["object"] != *name)
        {
            return Err(missing(400, name, id, name));
        }
    }
    let mut objects = account.newest(kind);
    objects.retain(|object| wanted.iter().all(|(name, id)| object[*name] == *id));
    whole(request, kind, &objects)
}

fn endpoints(account: &Account, request: &Recorded) -> Result<Value, Answer> {
    known(request, PAGING)?;
    let endpoints = account.newest("webhook_endpoint");
    let endpoints: Vec<Value> = endpoints.iter().map(public).collect();
    whole(request, "webhook_endpoint", &endpoints)
}

/// Endpoints of an account in one mode: <https://docs.stripe.com/webhooks>.
const ENDPOINTS_MAX: usize = 16;

/// <https://docs.stripe.com/api/webhook_endpoints/create>: the only answer that has the secret.
fn create_endpoint(account: &mut Account, request: &Recorded) -> Result<Value, Answer> {
    let own = [
        "url",
        "enabled_events",
        "api_version",
        "connect",
        "description",
        "metadata",
        "expand",
    ];
    known(request, &own)?;
    let missing = |name: &str| {
        invalid(
            "parameter_missing",
            name,
            &format!("Missing required param: {name}."),
        )
    };
    let url = request.field("url").ok_or_else(|| missing("url"))?;
    https(url)?;
    let events = asked_events(request)?.ok_or_else(|| missing("enabled_events"))?;
    if account.newest("webhook_endpoint").len() >= ENDPOINTS_MAX {
        let message = "You have reached the maximum of 16 test webhook endpoints.";
        return Err(invalid("", "", message));
    }
    let id = account.new_id("we_1");
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let mut endpoint = objects::endpoint(&id, url, &events, account.now());
    let fields = json!({
        "api_version": request.field("api_version"),
        "description": request.field("description"),
        "metadata": metadata(request, "metadata"),
        "fake_secret": format!("whsec_FakeCanary{}", &id[4..]),
    });
    set(&mut endpoint, fields);
    account.add(&id, endpoint.clone());
    let mut told = public(&endpoint);
    told["secret"] = endpoint["fake_secret"].clone();
    Ok(told)
}

/// <https://docs.stripe.com/api/webhook_endpoints/update>
fn update_endpoint(account: &mut Account, id: &str, request: &Recorded) -> Result<Value, Answer> {
    known(
        request,
        &[
            "url",
            "enabled_events",
            "disabled",
            "description",
            "metadata",
            "expand",
        ],
    )?;
    retrieve(account, id, "webhook_endpoint", "id")?;
    let mut endpoint = account.object(id);
    if let Some(url) = request.field("url") {
        https(url)?;
        set(&mut endpoint, json!({"url": url}));
    }
    if let Some(events) = asked_events(request)? {
        set(&mut endpoint, json!({"enabled_events": events}));
    }
    match request.field("disabled") {
        Some("true") => set(&mut endpoint, json!({"status": "disabled"})),
        Some("false") => set(&mut endpoint, json!({"status": "enabled"})),
        Some(_) | None => {}
    }
    account.add(id, endpoint.clone());
    Ok(public(&endpoint))
}

/// <https://docs.stripe.com/api/webhook_endpoints/delete>
fn delete_endpoint(account: &mut Account, id: &str) -> Result<Value, Answer> {
    retrieve(account, id, "webhook_endpoint", "id")?;
    account.objects.remove(id);
    account.made.retain(|made| made != id);
    Ok(json!({"id": id, "object": "webhook_endpoint", "deleted": true}))
}

fn https(url: &str) -> Result<(), Answer> {
    let message = "Invalid URL: An explicit scheme (such as https) must be provided.";
    let is_url = url.starts_with("https://") || url.starts_with("http://");
    is_url
        .then_some(())
        .ok_or_else(|| invalid("url_invalid", "url", message))
}

/// `enabled_events[0]` and so on, each of which Stripe must know; of those that are not ours, one stands
/// for all.
fn asked_events(request: &Recorded) -> Result<Option<Vec<String>>, Answer> {
    let named = request
        .form
        .iter()
        .filter(|(name, _)| name.starts_with("enabled_events["));
    let mut events = Vec::new();
    for (name, event) in named {
        if event != "*"
            && !paidup::truth::kind::listable().contains(&event.as_str())
            && event != "customer.created"
        {
            let message = format!(
                "Invalid {name}: must be one of account.updated, or any other type of event"
            );
            return Err(invalid("", name, &message));
        }
        events.push(event.clone());
    }
    Ok((!events.is_empty()).then_some(events))
}

fn whole(request: &Recorded, kind: &str, objects: &[Value]) -> Result<Value, Answer> {
    let id = |object: &Value| object["id"].as_str().unwrap().to_owned();
    let places: Vec<String> = objects.iter().map(id).collect();
    page(request, kind, &places, &objects.iter().collect::<Vec<_>>())
}

/// A page of `objects`, which like `places` are newest first.
/// <https://docs.stripe.com/api/pagination>
fn page(
    request: &Recorded,
    kind: &str,
    places: &[String],
    objects: &[&Value],
) -> Result<Value, Answer> {
    let limit = request.field("limit").map_or(Ok(10), str::parse::<usize>);
    let limit = limit.ok().filter(|limit| (1..=100).contains(limit));
    let limit = limit.ok_or_else(|| {
        invalid(
            "parameter_invalid_integer",
            "limit",
            "This value must be between 1 and 100.",
        )
    })?;
    let places: HashMap<&str, usize> = places
        .iter()
        .enumerate()
        .map(|(place, id)| (id.as_str(), place))
        .collect();
    let place = |id: &str| places.get(id).copied();
    let cursor = |name: &str| match request.field(name) {
        Some(id) => place(id)
            .map(Some)
            .ok_or_else(|| missing(400, kind, id, name)),
        None => Ok(None),
    };
    let (after, before) = (cursor("starting_after")?, cursor("ending_before")?);
    let is_in = |object: &&Value| {
        let place = place(object["id"].as_str().unwrap());
        after.is_none_or(|after| place > Some(after))
            && before.is_none_or(|before| place < Some(before))
    };
    let rest: Vec<&Value> = objects.iter().copied().filter(is_in).collect();
    let has_more = rest.len() > limit;
    let part = if before.is_some() {
        &rest[rest.len().saturating_sub(limit)..]
    } else {
        &rest[..limit.min(rest.len())]
    };
    Ok(json!({
        "object": "list",
        "data": part,
        "has_more": has_more,
        "url": request.path,
    }))
}

fn create_session(account: &mut Account, request: &Recorded) -> Result<Value, Answer> {
    known(request, SESSION_PARAMETERS)?;
    known_below(request)?;
    let now = account.now();
    if request.field("mode") != Some("payment") {
        return Err(invalid(
            "parameter_missing",
            "mode",
            "You must pass a mode.",
        ));
    }
    let Some(success_url) = request.field("success_url") else {
        return Err(invalid(
            "parameter_missing",
            "success_url",
            "Missing required param: success_url.",
        ));
    };
    let reference = request.field("client_reference_id");
    if reference.is_some_and(|reference| reference.chars().count() > 200) {
        return Err(invalid(
            "",
            "client_reference_id",
            "Must be at most 200 characters.",
        ));
    }
    let expires_at = match request.field("expires_at") {
        Some(text) => text.parse().unwrap_or(0),
        None => now + 24 * 60 * 60,
    };
    if !(now + 30 * 60..=now + 24 * 60 * 60).contains(&expires_at) {
        let message = "The `expires_at` timestamp must be between 30 minutes and 24 hours from \
                       Checkout Session creation.";
        return Err(invalid("", "expires_at", message));
    }
    let (total, currency) = total(account, request)?;
    let id = account.new_id("cs_test_a1");
    let mut session = objects::session();
    set(
        &mut session,
        json!({
            "id": id, "amount_subtotal": total, "amount_total": total, "currency": currency,
            "cancel_url": request.field("cancel_url"), "client_reference_id": reference,
            "created": now, "customer_details": null, "expires_at": expires_at,
            "metadata": metadata(request, "metadata"), "payment_intent": null,
            "payment_status": "unpaid", "status": "open", "success_url": success_url,
            "url": format!("https://checkout.stripe.com/c/pay/{id}#fake"),
            "fake_intent_metadata": metadata(request, "payment_intent_data[metadata]"),
        }),
    );
    account.add(&id, session.clone());
    Ok(public(&session))
}

/// Sum and currency of the lines.
fn total(account: &Account, request: &Recorded) -> Result<(i64, String), Answer> {
    let mut total = 0;
    let mut currency = None;
    for index in 0..100 {
        let start = format!("line_items[{index}]");
        if !request
            .form
            .iter()
            .any(|(name, _)| name.starts_with(&format!("{start}[")))
        {
            break;
        }
        let name = |rest: &str| format!("{start}{rest}");
        let field = |rest: &str| request.field(&name(rest));
        let number = |rest: &str| {
            let number = field(rest).unwrap_or("").parse::<i64>();
            let message = format!("Invalid integer: {}", field(rest).unwrap_or(""));
            number.map_err(|_| invalid("parameter_invalid_integer", &name(rest), &message))
        };
        let (amount, line_currency) = match field("[price]") {
            Some(price) => account
                .prices
                .get(price)
                .cloned()
                .ok_or_else(|| missing(400, "price", price, &name("[price]")))?,
            None => (
                number("[price_data][unit_amount]")?,
                field("[price_data][currency]").unwrap_or("").to_owned(),
            ),
        };
        let is_named = field("[price]").is_some()
            || field("[price_data][product_data][name]").is_some_and(|name| !name.is_empty());
        if !is_named {
            let param = name("[price_data][product_data][name]");
            return Err(invalid(
                "parameter_missing",
                &param,
                &format!("Missing required param: {param}."),
            ));
        }
        let quantity = number("[quantity]")?;
        if amount < 0 || quantity < 1 {
            return Err(invalid(
                "parameter_invalid_integer",
                &name("[quantity]"),
                "Too small.",
            ));
        }
        if line_currency.len() != 3
            || currency
                .as_ref()
                .is_some_and(|known| *known != line_currency)
        {
            let message = format!("Invalid currency: {line_currency}.");
            return Err(invalid("", &name("[price_data][currency]"), &message));
        }
        currency = Some(line_currency);
        total += amount * quantity;
    }
    let Some(currency) = currency else {
        return Err(invalid(
            "parameter_missing",
            "line_items",
            "Missing required param: line_items.",
        ));
    };
    if (1..50).contains(&total) {
        let message = "The Checkout Session's total amount due must add up to at least €0.50.";
        return Err(invalid("amount_too_small", "", message));
    }
    Ok((total, currency))
}

fn metadata(request: &Recorded, start: &str) -> Value {
    let mut metadata = json!({});
    for (name, value) in &request.form {
        let inner = name
            .strip_prefix(start)
            .and_then(|rest| rest.strip_prefix('['));
        if let Some(key) = inner.and_then(|rest| rest.strip_suffix(']')) {
            metadata[key] = json!(value);
        }
    }
    metadata
}

/// Refuses a parameter whose first word is not in `words`.
fn known(request: &Recorded, words: &[&str]) -> Result<(), Answer> {
    for (name, _) in &request.form {
        let (first, _) = name.split_once('[').unwrap_or((name, ""));
        // Until 2026-09-30.endive it was one.
        let version = request
            .header("stripe-version")
            .unwrap_or(objects::API_VERSION);
        let was_known = first == "payment_method_types" && version < "2026-09-30";
        if !words.contains(&first) && !was_known {
            return Err(unknown(first));
        }
    }
    Ok(())
}

/// The same inside of lines and of the payment's data.
fn known_below(request: &Recorded) -> Result<(), Answer> {
    for (name, _) in &request.form {
        let words: Vec<&str> = name
            .split('[')
            .map(|word| word.trim_end_matches(']'))
            .collect();
        let is_known = match words[..] {
            ["line_items", index, word, ..] if index.parse::<usize>().is_err() => {
                return Err(invalid("", name, &format!("Invalid array: {index}{word}")));
            }
            ["line_items", _, "price_data", word, ..] => PRICE_PARAMETERS.contains(&word),
            ["line_items", _, word, ..] => LINE_PARAMETERS.contains(&word),
            ["payment_intent_data", word, ..] => INTENT_PARAMETERS.contains(&word),
            _ => true,
        };
        if !is_known {
            return Err(unknown(name));
        }
    }
    Ok(())
}

fn unknown(name: &str) -> Answer {
    invalid(
        "parameter_unknown",
        name,
        &format!("Received unknown parameter: {name}"),
    )
}
