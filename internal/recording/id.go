// Package recording is what every program knows of a recording: its id, where it may be fetched from, the key of its
// object, and when a failed upload is tried again.
package recording

import (
	"crypto/sha256"
	"encoding/hex"
)

// ID is the id of a recording within its tenant: 16 hex digits from the call and the source URL without its query
// (a presigned URL changes its query at every answer, the recording stays the same).
func ID(callSID, sourceURL string) string {
	sum := sha256.Sum256([]byte(callSID + "\x00" + withoutQuery(sourceURL)))
	return hex.EncodeToString(sum[:8])
}

func withoutQuery(u string) string {
	for i := range len(u) {
		if u[i] == '?' || u[i] == '#' {
			return u[:i]
		}
	}
	return u
}
