package webhook

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

var states = map[exotel.State]store.CallState{
	exotel.StateQueued: store.CallQueued, exotel.StateRinging: store.CallRinging, exotel.StateInProgress: store.CallInProgress,
	exotel.StateCompleted: store.CallCompleted, exotel.StateBusy: store.CallBusy, exotel.StateNoAnswer: store.CallNoAnswer,
	exotel.StateFailed: store.CallFailed, exotel.StateCanceled: store.CallCanceled,
}

// parse turns a verified request into an event. One that names a call and cannot be applied becomes a dead event, which is
// kept; one that names none is refused.
func (h *Handler) parse(t *tenantconfig.Tenant, kind string, r *http.Request, body []byte, signed exotel.Request) (store.Event, error) {
	e := store.Event{Tenant: t.ID, Kind: kind, Source: "webhook", ContentType: bound(r.Header.Get("Content-Type"), 256),
		Raw: body, Query: redactQuery(r.URL.Query())}
	parsed, err := exotel.ParseEvent(kind, signed, location(t.TimeZone))
	var refused *exotel.ParseError
	if errors.As(err, &refused) {
		if refused.Code == "missing_call_sid" || refused.Code == "invalid_call_sid" {
			return e, problem.New(http.StatusBadRequest, problem.Validation, refused.Message)
		}
		e.DeadReason, e.CallSID = refused.Code, "unknown"
		e.DedupKey = sha256.Sum256(append([]byte(t.ID+"\x00"+kind+"\x00"+signed.RawQuery+"\x00"), signed.Body...))
		return e, nil
	}
	if err != nil {
		return e, err
	}
	e.CallSID, e.EventType, e.DedupKey = parsed.CallSID, bound(parsed.EventType, 64), parsed.DedupKey(t.ID)
	e.Call = store.Call{State: states[parsed.State], Direction: parsed.Direction, From: bound(parsed.From, 128), To: bound(parsed.To, 128),
		StartedAt: parsed.StartedAt, EndedAt: parsed.EndedAt, ConversationSeconds: parsed.ConversationSeconds,
		CustomField: bound(parsed.CustomField, 512)}
	h.addRecording(t, parsed, &e)
	return e, nil
}

// addRecording queues the recording that the event names, unless its URL is one that the tenant does not allow: then the
// event is kept as dead, with that reason, so that a person sees it and no pod ever fetches it.
func (h *Handler) addRecording(t *tenantconfig.Tenant, parsed *exotel.Event, e *store.Event) {
	if parsed.RecordingURL == "" {
		return
	}
	policy := h.o.Sources
	policy.Hosts = t.AllowedSourceHosts
	if err := policy.Validate(parsed.RecordingURL); err != nil {
		h.o.Log.Warn("refused a recording's source", "tenant", t.ID, "call", parsed.CallSID, "error", err)
		e.DeadReason = "source_refused"
		return
	}
	available := parsed.AvailableAt
	if limit := time.Now().Add(2 * time.Hour); available.After(limit) {
		available = limit // a time in the wrong zone must not park a recording for long
	}
	e.Recording = &store.NewRecording{ID: tenantconfig.RecordingID(parsed.CallSID, parsed.RecordingURL), SourceURL: parsed.RecordingURL,
		AvailableAt: available}
}

// secretNames are query fields, in lower case, in which senders carry secrets.
var secretNames = []string{"key", "api_key", "apikey", "token", "auth_token", "access_token", "secret", "password", "signature"}

func redactQuery(q url.Values) string {
	for n := range q {
		if slices.Contains(secretNames, strings.ToLower(n)) {
			q.Set(n, "redacted")
		}
	}
	return bound(q.Encode(), 16<<10)
}

// location falls back to IST, which has no daylight saving, where the zone is unknown to this machine.
func location(name string) *time.Location {
	if loc, err := time.LoadLocation(name); err == nil && name != "" {
		return loc
	}
	return time.FixedZone("IST", 5*3600+1800)
}
