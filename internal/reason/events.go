package reason

// Reasons why an event is dead: the column dead_reason and a label of caly_tenant_dead_events.
const (
	// DeadMalformedBody means that the body cannot be read.
	DeadMalformedBody = "malformed_body"
	// DeadMissingCallSID means that the event names no call.
	DeadMissingCallSID = "missing_call_sid"
	// DeadInvalidCallSID means that what the event names as its call is not an id.
	DeadInvalidCallSID = "invalid_call_sid"
	// DeadTooManyFields means that a bound of fields or bytes was reached before the event named a call.
	DeadTooManyFields = "too_many_fields"
	// DeadStale means that the event's own time is outside the tenant's freshness window.
	DeadStale = "stale"
	// DeadRefused means that PostgreSQL refused the event.
	DeadRefused = "refused_by_database"
	// DeadTooManyRecordings means that the event names a recording and its call has as many as it may have. In new
	// events it is the reason why the recordings are left out.
	DeadTooManyRecordings = "too_many_recordings"
)

// Reasons for which only earlier versions stored events as dead.
const (
	// DeadMalformedQuery means that a part of the query could not be read.
	DeadMalformedQuery = "malformed_query"
	// DeadMissingEventSID means that a leg event had no event_sid.
	DeadMissingEventSID = "missing_event_sid"
	// DeadEventSIDMismatch means that the header and the body of a leg event named different events.
	DeadEventSIDMismatch = "event_sid_mismatch"
	// DeadSourceRefused means that the tenant did not allow the URL of a recording.
	DeadSourceRefused = "source_refused"
)

// DeadOther stands, where dead events are counted, for every reason that is not in Dead.
const DeadOther = "other"

// Dead returns the reasons for which events are dead, sorted.
func Dead() []string {
	return []string{
		DeadEventSIDMismatch, DeadInvalidCallSID, DeadMalformedBody, DeadMalformedQuery, DeadMissingCallSID,
		DeadMissingEventSID, DeadRefused, DeadSourceRefused, DeadStale, DeadTooManyFields, DeadTooManyRecordings,
	}
}

// Reasons why a field of an event is left out: in the column unread and a label of caly_webhook_unread_fields_total.
const (
	// FieldMalformed means that the syntax is wrong: of an escape, a text, a time or a number.
	FieldMalformed = "malformed"
	// FieldTooLarge means that the field exceeds a bound, or that the request does and the fields after it were not
	// read.
	FieldTooLarge = "too_large"
	// FieldUnknownValue means that a status, type or direction is not in the tables.
	FieldUnknownValue = "unknown_value"
	// FieldUnknown means that no table has the field's name, and that Exotel is likely to have made it.
	FieldUnknown = "unknown_field"
	// FieldRepeated means that the field was sent more than once with different values. One of them is applied.
	FieldRepeated = "repeated"
	// FieldRejected means that a recording may not be fetched from its URL.
	FieldRejected = "rejected"
	// FieldTooManyRecordings means that the call has as many recordings as it may have.
	FieldTooManyRecordings = DeadTooManyRecordings
)

// Fields returns the reasons why a reader of events leaves out a field.
func Fields() []string {
	return []string{
		FieldMalformed, FieldTooLarge, FieldUnknownValue, FieldUnknown, FieldRepeated, FieldRejected,
	}
}
