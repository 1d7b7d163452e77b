package ingest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// presigned is a field of Call Details that lets anybody fetch the recording for some minutes, and is not needed.
const presigned = "PreSignedRecordingUrl"

// FromCall makes the event that Exotel would have delivered of a call that Call Details told of, raw being what was
// told. A call of another account is an error: the tenant does not own it.
func FromCall(
	t *tenantconfig.Tenant,
	sources recording.SourcePolicy,
	c *calldetails.Call,
	raw []byte,
) (store.Event, error) {
	if c.AccountSID != "" && c.AccountSID != t.AccountSID {
		return store.Event{}, fmt.Errorf(
			"call %s is of another Exotel account than %s: check spec.exotel.accountSID", c.SID, t.AccountSID,
		)
	}
	event := store.Event{
		Tenant:      t.ID,
		Kind:        exotel.KindStatus,
		Source:      SourceBackfill,
		CallSID:     c.SID,
		ContentType: "application/json",
		Raw:         withoutPresigned(raw),
	}
	event.Call = store.Call{
		State:            states[c.Outcome()],
		Direction:        c.Direction,
		From:             fit(&event, "From", c.From, maxNumber),
		To:               fit(&event, "To", c.To, maxNumber),
		StartedAt:        c.StartedAt,
		EndedAt:          c.EndedAt,
		RecordingSeconds: c.RecordingSeconds,
	}
	addUnread(&event, c.Unread)
	if c.Details != nil {
		event.Call.ConversationSeconds = c.Details.ConversationSeconds
		for i := range c.Details.Legs {
			event.Legs = append(event.Legs, leg(&c.Details.Legs[i], c.UpdatedAt))
		}
	}
	if c.Over() {
		event.EventType = "terminal"
	}
	if event.SaidAt = c.UpdatedAt; event.SaidAt.IsZero() {
		event.SaidAt = c.EndedAt
	}
	content := said(c, &event)
	event.DedupKey = sha256.Sum256(append([]byte(SourceBackfill+"\x00"+t.ID+"\x00"+c.SID+"\x00"), content[:]...))
	addRecordings(&event, t, sources, time.Time{}, c.RecordingURLs...)
	return event, nil
}

// said is a digest of all that a call's record says and that is applied: what was said once is not stored a second
// time. Prices change without meaning more. The date of update is part of it, since the later of two records that
// differ is right.
func said(c *calldetails.Call, e *store.Event) [32]byte {
	at := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.Unix()
	}
	found, _, _ := strings.Cut(c.RecordingURL, "?")
	call := &e.Call
	// %q, so that no two lists of fields read the same.
	said := fmt.Appendf(nil, "%d %q %q %q %d %d %d %q %d", call.State, call.Direction, call.From, call.To,
		at(call.StartedAt), at(call.EndedAt), call.ConversationSeconds, found, at(e.SaidAt))
	for i := 1; i < len(c.RecordingURLs); i++ {
		said = fmt.Appendf(said, " %q", exotel.WithoutQuery(c.RecordingURLs[i]))
	}
	for _, l := range e.Legs {
		said = fmt.Appendf(said, " %q %q %d %d", l.Key, l.Number, l.State, l.Seconds)
	}
	return sha256.Sum256(said)
}

// withoutPresigned is the record as it was told, but for the one field that must not be kept.
func withoutPresigned(raw []byte) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return raw // and no call was read from it either
	}
	kept := len(fields)
	for name := range fields {
		if strings.EqualFold(name, presigned) {
			delete(fields, name)
		}
	}
	if len(fields) == kept {
		return raw
	}
	without, err := json.Marshal(fields)
	if err != nil {
		return nil // cannot be: it was JSON a moment ago
	}
	return without
}
