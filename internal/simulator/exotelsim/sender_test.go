package exotelsim

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// delivery is a webhook as its receiver sees it.
type delivery struct {
	method, contentType, query, signature string
	body                                  string
}

// receiver keeps what it gets and answers with one status after the other; the last one stays.
func receiver(t *testing.T, statuses ...int) (address string, got func() []delivery) {
	t.Helper()
	var (
		mu   sync.Mutex
		list []delivery
	)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		list = append(list, delivery{
			r.Method,
			r.Header.Get("Content-Type"),
			r.URL.RawQuery,
			r.Header.Get("X-Exotel-Signature"),
			string(body),
		})
		w.WriteHeader(statuses[min(len(list), len(statuses))-1])
	}))
	t.Cleanup(server.Close)
	return server.URL + "/hook", func() []delivery {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}

func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// fieldsOf reads a delivery with the standard library's parsers, not with what Caly has.
func fieldsOf(t *testing.T, d delivery) map[string]string {
	t.Helper()
	req := httptest.NewRequest(d.method, "/hook?"+d.query, strings.NewReader(d.body))
	req.Header.Set("Content-Type", d.contentType)
	fields := map[string]string{}
	media, _, _ := mime.ParseMediaType(d.contentType)
	switch media {
	case "application/json":
		if err := json.Unmarshal([]byte(d.body), &fields); err != nil {
			t.Fatal(err)
		}
		return fields
	case "multipart/form-data":
		if err := req.ParseMultipartForm(1 << 20); err != nil {
			t.Fatal(err)
		}
	default:
		if err := req.ParseForm(); err != nil {
			t.Fatal(err)
		}
	}
	for k := range req.Form {
		fields[k] = req.Form.Get(k)
	}
	return fields
}

// TestSpellings sends one StatusCallback in every spelling, and a Passthru. The fields are read back with the standard
// library, and the signatures of those with a fixed body are literals made with openssl dgst -sha1 -hmac.
func TestSpellings(t *testing.T) {
	status := url.Values{
		"CallSid":         {"c1"},
		"Status":          {"completed"},
		"Legs[0][Status]": {"no-answer"},
		"RecordingUrl":    {"https://h/a b.mp3?x=1&y=2"},
	}
	passthru := url.Values{"CallSid": {"c1"}, "CallFrom": {"09876543210"}, "digits": {`"1234"`}}
	const spelled = "CallSid=c1&Legs%5B0%5D%5BStatus%5D=no-answer" +
		"&RecordingUrl=https%3A%2F%2Fh%2Fa+b.mp3%3Fx%3D1%26y%3D2&Status=completed"
	for name, tc := range map[string]struct {
		fields                             url.Values
		how                                Spelling
		wantMethod, wantMedia              string
		wantQuery, wantBody, wantSignature string
	}{
		"status as a form": {
			status,
			Form,
			"POST",
			"application/x-www-form-urlencoded",
			"",
			spelled,
			"1842c54201873bea8a7b8b56cb8c9966f8dcb5cf",
		},
		"status as JSON": {status, JSON, "POST", "application/json", "",
			`{"CallSid":"c1","Legs[0][Status]":"no-answer","RecordingUrl":"https://h/a b.mp3?x=1\u0026y=2",` +
				`"Status":"completed"}`,
			"19f56f5b03ad062de38fcae26e0db5b6c382ce02"},
		"status as multipart": {status, Multipart, "POST", "multipart/form-data", "", "", ""}, // its boundary is another each time
		"status as GET":       {status, Query, "GET", "", spelled, "", "1842c54201873bea8a7b8b56cb8c9966f8dcb5cf"},
		"passthru": {passthru, Query, "GET", "", "CallFrom=09876543210&CallSid=c1&digits=%221234%22", "",
			"636ee81991ee3b48581bf8f473ef89e6e29bd1e6"},
		"passthru as POST": {passthru, Form, "POST", "application/x-www-form-urlencoded", "",
			"CallFrom=09876543210&CallSid=c1&digits=%221234%22",
			"636ee81991ee3b48581bf8f473ef89e6e29bd1e6"},
	} {
		t.Run(name, func(t *testing.T) {
			to, got := receiver(t, 200)
			code, attempts, err := Sender{Secret: "s3cret", HTTP: client(t)}.Send(t.Context(), to, tc.fields, tc.how)
			if code != 200 || attempts != 1 || err != nil {
				t.Fatalf("%d after %d attempts: %v", code, attempts, err)
			}
			delivery := got()[0]
			media, _, _ := mime.ParseMediaType(delivery.contentType)
			if delivery.method != tc.wantMethod || media != tc.wantMedia || delivery.query != tc.wantQuery {
				t.Errorf(
					"%s %s ?%s, want %s %s ?%s",
					delivery.method,
					media,
					delivery.query,
					tc.wantMethod,
					tc.wantMedia,
					tc.wantQuery,
				)
			}
			if tc.wantSignature != "" && (delivery.body != tc.wantBody || delivery.signature != tc.wantSignature) {
				t.Errorf(
					"body %s signed %s, want %s signed %s",
					delivery.body,
					delivery.signature,
					tc.wantBody,
					tc.wantSignature,
				)
			}
			if want := hmacSHA1("s3cret", delivery.body+delivery.query); delivery.signature != want {
				t.Errorf("signature %s, want %s", delivery.signature, want)
			}
			want := map[string]string{}
			for k := range tc.fields {
				want[k] = tc.fields.Get(k)
			}
			if diff := cmp.Diff(want, fieldsOf(t, delivery)); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCallFields(t *testing.T) {
	started := time.Date(2026, 1, 15, 20, 0, 0, 0, time.UTC)
	call := Call{
		SID:          "c1",
		From:         "0987",
		To:           "0912",
		RecordingURL: "https://h/c1.mp3",
		Started:      started,
		Ended:        started.Add(61 * time.Second),
	}
	got := call.Terminal()
	if _, err := time.Parse(wallClock, got.Get("DateUpdated")); err != nil {
		t.Errorf("DateUpdated: %v", err)
	}
	got.Del("DateUpdated")
	if d := cmp.Diff(url.Values{
		"CallSid":                 {"c1"},
		"EventType":               {"terminal"},
		"Status":                  {"completed"},
		"Direction":               {"outbound-api"},
		"From":                    {"0987"},
		"To":                      {"0912"},
		"StartTime":               {"2026-01-16 01:30:00"},
		"EndTime":                 {"2026-01-16 01:31:01"},
		"ConversationDuration":    {"61"},
		"RecordingUrl":            {"https://h/c1.mp3"},
		"Legs[0][Status]":         {"completed"},
		"Legs[0][OnCallDuration]": {"41"},
	}, got); d != "" {
		t.Errorf("terminal (-want +got):\n%s", d)
	}
	if d := cmp.Diff(url.Values{
		"CallSid":   {"c1"},
		"EventType": {"answered"},
		"Status":    {"in-progress"},
		"From":      {"0987"},
		"To":        {"0912"},
	}, call.Answered()); d != "" {
		t.Errorf("answered (-want +got):\n%s", d)
	}
}

func TestSenderTriesAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		statuses                 []int
		wantStatus, wantAttempts int
		wantErr                  string
	}{
		"at once":                     {[]int{204}, 204, 1, ""},
		"the second time":             {[]int{503, 200}, 200, 2, ""},
		"the third time":              {[]int{500, 404, 202}, 202, 3, ""},
		"never":                       {[]int{503}, 503, 3, "the webhook was answered 503"},
		"a redirect is not a success": {[]int{304}, 304, 3, "the webhook was answered 304"},
	} {
		t.Run(name, func(t *testing.T) {
			to, got := receiver(t, tc.statuses...)
			code, attempts, err := Sender{
				Wait: time.Millisecond,
				HTTP: client(t),
			}.Send(t.Context(), to, url.Values{"CallSid": {"c1"}}, Form)
			if code != tc.wantStatus || attempts != tc.wantAttempts || len(got()) != tc.wantAttempts {
				t.Errorf(
					"%d after %d attempts, %d received; want %d after %d",
					code,
					attempts,
					len(got()),
					tc.wantStatus,
					tc.wantAttempts,
				)
			}
			if (err == nil) != (tc.wantErr == "") || err != nil && err.Error() != tc.wantErr {
				t.Errorf("got %v, want %q", err, tc.wantErr)
			}
		})
	}
}

func TestSenderRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		to      string
		how     Spelling
		wantErr string
	}{
		"nobody there": {"http://127.0.0.1:1/", Form, "refused"},
		"no spelling": {
			"http://127.0.0.1:1/",
			"xml",
			`"xml" is not a spelling of a body: use multipart, form or json`,
		},
		"no address":         {"http://\x00/", JSON, "invalid control character"},
		"no address for GET": {"http://\x00/", Query, "invalid control character"},
	} {
		t.Run(name, func(t *testing.T) {
			_, attempts, err := Sender{
				Wait: time.Millisecond,
				HTTP: client(t),
			}.Send(t.Context(), tc.to, url.Values{"CallSid": {"c1"}}, tc.how)
			if attempts != 3 || err == nil || !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("%v after %d attempts, want %q after 3", err, attempts, tc.wantErr)
			}
		})
	}
}

func TestSenderGivesUpWithItsContext(t *testing.T) {
	to, got := receiver(t, 503)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	_, attempts, err := Sender{Wait: time.Hour, HTTP: client(t)}.Send(ctx, to, url.Values{"CallSid": {"c1"}}, Form)
	if attempts != 2 || len(got()) != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf(
			"%v after %d attempts, %d received: want to be canceled in the wait for the second",
			err,
			attempts,
			len(got()),
		)
	}
}
