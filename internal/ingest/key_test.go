package ingest

import (
	"testing"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/recording"
)

// TestSignedKey checks that signed bytes are one event of a tenant, whatever else the request says, readable or not.
func TestSignedKey(t *testing.T) {
	key := func(tenantID, kind, fields, digest string) [32]byte {
		of := tenant()
		of.ID = tenantID
		d := delivery(kind, fields)
		if digest != "" {
			d.SignedDigest = []byte(digest)
		}
		return Build(of, recording.SourcePolicy{}, d).DedupKey
	}
	const fields, unreadable = "CallSid=c1&Status=busy", "Status=busy"
	first := key("acme/support", exotel.KindStatus, fields, "a digest")
	for name, tc := range map[string]struct {
		got      [32]byte
		wantSame bool
	}{
		"the same bytes":          {key("acme/support", exotel.KindStatus, fields, "a digest"), true},
		"under another kind":      {key("acme/support", exotel.KindLeg, fields, "a digest"), true},
		"other fields":            {key("acme/support", exotel.KindStatus, "CallSid=c2", "a digest"), true},
		"not readable":            {key("acme/support", exotel.KindStatus, unreadable, "a digest"), true},
		"other bytes":             {key("acme/support", exotel.KindStatus, fields, "another digest"), false},
		"of another tenant":       {key("globex/sales", exotel.KindStatus, fields, "a digest"), false},
		"not signed":              {key("acme/support", exotel.KindStatus, fields, ""), false},
		"not readable, unsigned":  {key("acme/support", exotel.KindStatus, unreadable, ""), false},
		"not readable, elsewhere": {key("globex/sales", exotel.KindStatus, unreadable, "a digest"), false},
	} {
		if same := tc.got == first; same != tc.wantSame {
			t.Errorf("%s: the key is the same: %v, want %v", name, same, tc.wantSame)
		}
	}
}
