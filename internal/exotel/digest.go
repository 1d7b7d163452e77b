package exotel

import (
	"crypto/sha256"
	"hash"
	"strconv"
	"strings"
)

// DedupKey is the same for every delivery of one event, and for no other. It is a digest of the parsed fields, since a
// multipart body carries another boundary at each attempt. Leg events have an id, which is all that counts of them.
func (e *Event) DedupKey(tenant string) [32]byte {
	hash := sha256.New()
	if e.EventSID != "" {
		writeFields(hash, tenant, e.Kind, "event_sid", e.EventSID)
	} else {
		writeFields(hash, tenant, e.Kind)
		e.writeParams(hash)
		for _, t := range e.repeated {
			_, _ = hash.Write(appendParam(nil, t.name, t.value)) // a hash never fails
		}
	}
	return [32]byte(hash.Sum(nil))
}

// writeParams hashes every field.
func (e *Event) writeParams(h hash.Hash) {
	written := make([]byte, 0, keyRoom)
	for _, name := range e.names {
		if written = appendParam(written, name, e.fields[name]); len(written) > keyRoom/2 {
			_, _ = h.Write(written) // a hash never fails
			written = written[:0]
		}
	}
	_, _ = h.Write(written)
}

// appendParam appends a field, but not what differs from one delivery of an event to the next: the time of the request,
// and the query of a presigned URL.
func appendParam(into []byte, name, value string) []byte {
	value = strings.TrimSpace(value)
	if value == "" || strings.EqualFold(name, "CurrentTime") {
		return into
	}
	return appendFields(into, name, withoutSignatures(name, value))
}

// withoutSignatures returns a URL, or a list of URLs, without the queries that differ from one delivery to the next:
// those of recordings, and of any other URL that is signed. The URL may lack its scheme.
func withoutSignatures(name, value string) string {
	if value = decodedURL(value); !strings.Contains(value, "?") {
		return value
	}
	urls := splitURLs(value)
	recordings := isRecordingName(name)
	for i, u := range urls {
		bare, query, _ := strings.Cut(u, "?")
		if recordings || startsURL(u) && isSignedQuery(query) {
			urls[i] = bare
		}
	}
	return strings.Join(urls, ",")
}

// keyRoom is the room in which the fields of a key are collected, in bytes.
const keyRoom = 2 << 10

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
