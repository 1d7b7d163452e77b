package exotel

import (
	"crypto/sha256"
	"hash"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// DedupKey is the same for every delivery of one event, and for no other: a digest of the parsed fields, since a multipart
// body carries another boundary at each attempt. Only leg events have an id, which then is all that counts.
func (e *Event) DedupKey(tenant string) [32]byte {
	h := sha256.New()
	if e.EventSID != "" {
		writeFields(h, tenant, e.Kind, "event_sid", e.EventSID)
		return [32]byte(h.Sum(nil))
	}
	// A presigned URL changes its query at each answer.
	writeFields(h, tenant, e.Kind, e.CallSID, e.EventType, strings.ToLower(e.Status), withoutQuery(e.RecordingURL))
	writeFields(h, e.legs...)
	if s := e.Stream; s != nil {
		writeFields(h, "stream", s.SID, strings.ToLower(s.Status), withoutQuery(s.RecordingURL))
	}
	writeFields(h, e.step...)
	return [32]byte(h.Sum(nil))
}

// ContentDigest is over all that was said, in whatever spelling: two deliveries of one event differ in it only if somebody
// changed a field on the way.
func (e *Event) ContentDigest() [32]byte { return e.content }

// digest covers every field but those that differ from one delivery of an event to the next.
func (p params) digest() [32]byte {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(p)) {
		value := strings.TrimSpace(p[name])
		if value == "" || name == "CurrentTime" {
			continue
		}
		if strings.HasPrefix(value, "https://") || strings.HasPrefix(value, "http://") {
			value = withoutQuery(value)
		}
		writeFields(h, name, value)
	}
	return [32]byte(h.Sum(nil))
}

// step is what tells two Passthru applets of one call's flow apart, beside what every event's key holds.
func (p params) step() []string {
	var step []string
	for _, name := range []string{"CallType", "DialCallStatus", "digits", "flow_id"} {
		if v := p.first(name); v != "" {
			step = append(step, name, v)
		}
	}
	return step
}

func withoutQuery(u string) string {
	u, _, _ = strings.Cut(u, "?")
	return u
}

// writeFields puts a length in front of each, so that no two lists of fields meet in one stream of bytes.
func writeFields(h hash.Hash, fields ...string) {
	for _, s := range fields {
		_, _ = io.WriteString(h, strconv.Itoa(len(s))+":"+s) // a hash never fails
	}
}
