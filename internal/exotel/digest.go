package exotel

import (
	"crypto/sha256"
	"hash"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// DedupKey is the same for every delivery of one event, and for no other. It is a digest of the parsed fields, since a
// multipart body carries another boundary at each attempt. Leg events have an id, which is all that counts of them.
func (e *Event) DedupKey(tenant string) [32]byte {
	h := sha256.New()
	if e.EventSID != "" {
		writeFields(h, tenant, e.Kind, "event_sid", e.EventSID)
	} else {
		writeFields(h, tenant, e.Kind)
		e.fields.write(h)
	}
	return [32]byte(h.Sum(nil))
}

// write hashes every field but those that differ from one delivery of an event to the next: the time of the request,
// and the query of a presigned URL.
func (p params) write(h hash.Hash) {
	written := make([]byte, 0, keyRoom)
	for _, name := range slices.Sorted(maps.Keys(p)) {
		value := strings.TrimSpace(p[name])
		if value == "" || strings.EqualFold(name, "CurrentTime") {
			continue
		}
		if strings.HasPrefix(value, "https://") || strings.HasPrefix(value, "http://") {
			value = withoutQuery(value)
		}
		if written = appendFields(written, name, value); len(written) > keyRoom/2 {
			_, _ = h.Write(written) // a hash never fails
			written = written[:0]
		}
	}
	_, _ = h.Write(written)
}

// keyRoom is the room in which the fields of a key are collected, in bytes.
const keyRoom = 2 << 10

func withoutQuery(u string) string {
	u, _, _ = strings.Cut(u, "?")
	return u
}

// writeFields puts a length in front of each field, so that no two lists of fields are the same stream of bytes.
func writeFields(h hash.Hash, fields ...string) {
	_, _ = h.Write(appendFields(nil, fields...)) // a hash never fails
}

// appendFields appends what writeFields writes.
func appendFields(into []byte, fields ...string) []byte {
	for _, s := range fields {
		into = strconv.AppendInt(into, int64(len(s)), 10)
		into = append(into, ':')
		into = append(into, s...)
	}
	return into
}
