package objectstore_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/caly-dev/caly/internal/objectstore"
)

// FuzzErrorAnswer reads error answers of any status and body. What is shown of one is short, on one line, and can be
// printed.
func FuzzErrorAnswer(f *testing.F) {
	f.Add(403, "us-east-1", "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
	f.Add(400, "eu", "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>")
	f.Add(301, "", "<Error><Code>PermanentRedirect</Code><Endpoint>b.s3.amazonaws.com</Endpoint></Error>")
	f.Add(403, "", "<Error><Code>RequestTimeTooSkewed</Code><ServerTime>2026-01-02T03:04:05Z</ServerTime></Error>")
	f.Add(507, "a\x00b", "<html>")
	var status int
	var region, body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amz-Bucket-Region", region)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	f.Cleanup(server.Close)
	b, err := objectstore.New(objectstore.Config{
		Endpoint:        server.URL,
		AccessKeyID:     "k",
		SecretAccessKey: "s",
		Bucket:          "bucket",
	},
		objectstore.NewTransport(loopback, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer int, where, text string) {
		status = 300 + int(uint(answer)%300)
		region = where
		body = text
		err := b.Probe(t.Context())
		if err == nil {
			t.Fatalf("no error from status %d", status)
		}
		shown := objectstore.Explain(err) + err.Error()
		if len(shown) > 4000 || !utf8.ValidString(shown) {
			t.Fatalf("%d bytes: %q", len(shown), shown)
		}
		for _, r := range shown {
			if !unicode.IsPrint(r) {
				t.Fatalf("the character %q is shown: %q", r, shown)
			}
		}
	})
}
