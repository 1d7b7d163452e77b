package objectstore_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/resilience"
)

// TestReadRange reads the bytes from 2 to 5 of an object of 10 bytes, from stores that answer in one of the ways of
// RFC 9110, section 14.4, or against it.
func TestReadRange(t *testing.T) {
	for name, tc := range map[string]struct {
		contentRange string
		body         string
		want         string
		wantErr      bool
	}{
		"the range":               {contentRange: "bytes 2-5/10", body: "2345", want: "2345"},
		"of unknown length":       {contentRange: "bytes 2-5/*", body: "2345", want: "2345"},
		"the rest":                {contentRange: "bytes 2-9/10", body: "23456789", want: "2345"},
		"the whole object":        {body: "0123456789", want: "2345"},
		"another start":           {contentRange: "bytes 0-3/10", body: "0123", wantErr: true},
		"another unit":            {contentRange: "items 2-5/10", body: "2345", wantErr: true},
		"unreadable":              {contentRange: "2-5", body: "2345", wantErr: true},
		"shorter":                 {contentRange: "bytes 2-4/10", body: "234", want: "234", wantErr: true},
		"a whole object, shorter": {body: "012", want: "2", wantErr: true},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				status := http.StatusOK
				if tc.contentRange != "" {
					w.Header().Set("Content-Range", tc.contentRange)
					status = http.StatusPartialContent
				}
				w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
				w.Header().Set("Content-Length", strconv.Itoa(len(tc.body)))
				w.WriteHeader(status)
				_, _ = w.Write([]byte(tc.body))
			}))
			defer server.Close()
			b, err := objectstore.New(objectstore.Config{
				Endpoint:        server.URL,
				AccessKeyID:     "key",
				SecretAccessKey: "secret",
				Bucket:          "calls",
			}, objectstore.NewTransport(loopback, 1))
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			err = b.ReadRange(t.Context(), "a.wav", 2, 4, &got)
			if diff := cmp.Diff(tc.want, got.String()); diff != "" || (err != nil) != tc.wantErr {
				t.Errorf("ReadRange() = %v, want an error: %v (-want +got):\n%s", err, tc.wantErr, diff)
			}
			if tc.wantErr && resilience.Classify(err) != resilience.Transient {
				t.Errorf("%v is not transient", err)
			}
		})
	}
}
