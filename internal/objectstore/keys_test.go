package objectstore_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/objectstore"
)

// TestKeysAreHidden prints what holds credentials in each way that a log or an error may.
func TestKeysAreHidden(t *testing.T) {
	const text = "top-secret"
	key := objectstore.TemporaryKey{AccessKeyID: text, SecretAccessKey: text, SessionToken: text}
	identity := objectstore.WebIdentity{Token: text}
	for name, value := range map[string]any{
		"Keys":          objectstore.Keys{AccessKeyID: text, SecretAccessKey: text, SessionToken: text},
		"TemporaryKey":  key,
		"*TemporaryKey": &key,
		"WebIdentity":   identity,
		"*WebIdentity":  &identity,
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
				fmt.Fprintf(&out, format+"\n", value)
			}
			slog.New(slog.NewTextHandler(&out, nil)).Info("m", "key", value)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "key", value)
			if strings.Contains(out.String(), text) {
				t.Errorf("a secret is shown: %s", out.String())
			}
		})
	}
}
