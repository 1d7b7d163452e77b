package exotelsim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	recording = "/exotelrecordings/acme1/c1.mp3"
	sized     = recording + "?size=1000"
)

// audio1000 is what the recording must be, made without the server.
func audio1000() []byte {
	b := make([]byte, 1000)
	_, _ = Audio(recording).ReadAt(b, 0)
	return b
}

func TestAuthorisation(t *testing.T) {
	for name, tc := range map[string]struct {
		o              Options
		request        []func(*http.Request)
		wantStatus     int
		wantChallenged bool
	}{
		"none asked for":    {Options{}, nil, 200, false},
		"right":             {Options{Key: "k", Token: "t"}, []func(*http.Request){basic("k", "t")}, 200, false},
		"missing":           {Options{Key: "k", Token: "t"}, nil, 401, true},
		"wrong token":       {Options{Key: "k", Token: "t"}, []func(*http.Request){basic("k", "x")}, 401, true},
		"wrong key":         {Options{Key: "k", Token: "t"}, []func(*http.Request){basic("x", "t")}, 401, true},
		"shifted separator": {Options{Key: "k", Token: "t"}, []func(*http.Request){basic("k\x00t", "")}, 401, true},
		"no Basic": {Options{
			Key:   "k",
			Token: "t",
		}, []func(*http.Request){with("Authorization", "Bearer k:t")}, 401, true},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, tc.o)
			for _, path := range []string{sized, "/v1/Accounts/acme1/Calls.json"} {
				got := get(t, server, path, tc.request...)
				if got.status != tc.wantStatus || (got.header.Get("WWW-Authenticate") != "") != tc.wantChallenged {
					t.Errorf(
						"%s: %d with challenge %q, want %d, %v",
						path,
						got.status,
						got.header.Get("WWW-Authenticate"),
						tc.wantStatus,
						tc.wantChallenged,
					)
				}
			}
			if n := server.Requests(recording); (n == 1) != (tc.wantStatus == 200) {
				t.Errorf("%d requests counted", n)
			}
		})
	}
}

// TestStatuses lists the answers to request after request.
func TestStatuses(t *testing.T) {
	for name, tc := range map[string]struct {
		quirks Quirks
		want   []int
	}{
		"none":                      {Quirks{}, []int{200, 200}},
		"not ready":                 {Quirks{NotReady: 2}, []int{404, 404, 200, 200}},
		"too many":                  {Quirks{TooMany: 1}, []int{429, 200}},
		"not ready, then too many":  {Quirks{NotReady: 1, TooMany: 1}, []int{404, 429, 200}},
		"a status stays":            {Quirks{Status: 503}, []int{503, 503, 503}},
		"a status before the rest":  {Quirks{Status: 403, NotReady: 1}, []int{403, 403}},
		"refused, whatever is left": {Quirks{Status: 401, TooMany: 1}, []int{401, 401}},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, Options{})
			server.Set(recording, tc.quirks)
			var got []int
			for range tc.want {
				answer := get(t, server, sized)
				got = append(got, answer.status)
				if wantAfter := answer.status == 429; (answer.header.Get("Retry-After") == "1") != wantAfter {
					t.Errorf("%d with Retry-After %q", answer.status, answer.header.Get("Retry-After"))
				}
				if answer.status == 200 && !bytes.Equal(answer.body, audio1000()) {
					t.Errorf("the recording has other bytes")
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("statuses (-want +got):\n%s", d)
			}
			if n := server.Requests(recording); n != len(tc.want) {
				t.Errorf("%d requests counted, want %d", n, len(tc.want))
			}
		})
	}
}

func TestRange(t *testing.T) {
	tag := `"` + recording + `1000"`
	for name, tc := range map[string]struct {
		quirks     Quirks
		request    []func(*http.Request)
		wantStatus int
		wantFrom   int
		wantRange  string
	}{
		"all": {Quirks{}, nil, 200, 0, ""},
		"from the middle": {
			Quirks{},
			[]func(*http.Request){with("Range", "bytes=400-")},
			206,
			400,
			"bytes 400-999/1000",
		},
		"the last byte": {
			Quirks{},
			[]func(*http.Request){with("Range", "bytes=999-")},
			206,
			999,
			"bytes 999-999/1000",
		},
		"beyond the end": {Quirks{}, []func(*http.Request){with("Range", "bytes=1000-")}, 200, 0, ""},
		"another unit":   {Quirks{}, []func(*http.Request){with("Range", "items=4-")}, 200, 0, ""},
		"both ends":      {Quirks{}, []func(*http.Request){with("Range", "bytes=4-8")}, 200, 0, ""},
		"If-Range holds": {
			Quirks{},
			[]func(*http.Request){with("Range", "bytes=400-"), with("If-Range", tag)},
			206,
			400,
			"bytes 400-999/1000",
		},
		"If-Range is old": {
			Quirks{},
			[]func(*http.Request){with("Range", "bytes=400-"), with("If-Range", `"old"`)},
			200,
			0,
			"",
		},
		"the tag changes": {
			Quirks{ChangeETag: true},
			[]func(*http.Request){with("Range", "bytes=400-"), with("If-Range", tag)},
			200,
			0,
			"",
		},
		"ranges not supported": {Quirks{NoRange: true}, []func(*http.Request){with("Range", "bytes=400-")}, 200, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, Options{})
			server.Set(recording, tc.quirks)
			got := get(t, server, sized, tc.request...)
			if got.status != tc.wantStatus || got.header.Get("Content-Range") != tc.wantRange {
				t.Errorf("%d %q, want %d %q", got.status, got.header.Get("Content-Range"), tc.wantStatus, tc.wantRange)
			}
			if !bytes.Equal(got.body, audio1000()[tc.wantFrom:]) || got.length != int64(1000-tc.wantFrom) {
				t.Errorf("%d bytes, announced %d: not the recording from %d on", len(got.body), got.length, tc.wantFrom)
			}
			if (got.header.Get("Accept-Ranges") == "bytes") == tc.quirks.NoRange {
				t.Errorf("Accept-Ranges is %q", got.header.Get("Accept-Ranges"))
			}
		})
	}
}

func TestTags(t *testing.T) {
	for name, tc := range map[string]struct {
		quirks   Quirks
		wantSame bool
	}{
		"stable":   {Quirks{}, true},
		"changing": {Quirks{ChangeETag: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, Options{})
			server.SetAll(tc.quirks)
			a := get(t, server, sized).header.Get("ETag")
			b := get(t, server, sized).header.Get("ETag")
			if a == "" || (a == b) != tc.wantSame {
				t.Errorf("tags %s and %s", a, b)
			}
		})
	}
}

func TestNoLength(t *testing.T) {
	server := start(t, Options{})
	server.Set(recording, Quirks{NoLength: true})
	// What fits net/http's buffer gets a length anyway, as it does from Exotel's own server.
	const size = 100_000
	got := get(t, server, recording+"?size=100000")
	if got.status != 200 || got.length != -1 || len(got.body) != size || got.err != nil {
		t.Errorf("%d, announced %d, %d bytes, %v: want a chunked body", got.status, got.length, len(got.body), got.err)
	}
}

func TestTruncation(t *testing.T) {
	for name, tc := range map[string]struct {
		noLength bool
	}{"with a length": {false}, "chunked": {true}} {
		t.Run(name, func(t *testing.T) {
			server := start(t, Options{})
			server.Set(recording, Quirks{TruncateAt: 300, Truncations: 2, NoLength: tc.noLength})
			for i, want := range []int{300, 300, 1000} {
				got := get(t, server, sized)
				if !bytes.Equal(got.body, audio1000()[:want]) {
					t.Errorf("answer %d: %d bytes, want the first %d", i, len(got.body), want)
				}
				if broken := errors.Is(got.err, io.ErrUnexpectedEOF); broken != (want < 1000) {
					t.Errorf("answer %d: ended with %v", i, got.err)
				}
			}
			if n := server.BytesServed(); n != 1600 {
				t.Errorf("%d bytes counted, want 1600", n)
			}
		})
	}
}

func TestSlow(t *testing.T) {
	server := start(t, Options{})
	server.Set(recording, Quirks{BytesPerSecond: 2500})
	begun := time.Now()
	got := get(t, server, sized)
	if took := time.Since(begun); took < 250*time.Millisecond || !bytes.Equal(got.body, audio1000()) {
		t.Errorf("%d bytes in %s: want 1000 in 300 ms or more", len(got.body), took)
	}
}

func TestHTML(t *testing.T) {
	server := start(t, Options{})
	server.Set(recording, Quirks{HTML: true})
	got := get(t, server, sized)
	if got.status != 200 || got.header.Get("Content-Type") != "text/html" ||
		!strings.HasPrefix(string(got.body), "<html>") {
		t.Errorf("%d %s %.20q, want a page", got.status, got.header.Get("Content-Type"), got.body)
	}
}

func TestHead(t *testing.T) {
	got := get(t, start(t, Options{}), sized, method(http.MethodHead))
	if got.status != 200 || got.length != 1000 || len(got.body) != 0 {
		t.Errorf("%d, announced %d, %d bytes", got.status, got.length, len(got.body))
	}
}

func TestQuirksOfOneAndOfAll(t *testing.T) {
	server := start(t, Options{})
	server.SetAll(Quirks{Status: 503})
	server.Set(recording, Quirks{})
	if got := get(t, server, sized).status; got != 200 {
		t.Errorf("a recording with quirks of its own answered %d", got)
	}
	if got := get(t, server, "/exotelrecordings/acme1/c2.mp3").status; got != 503 {
		t.Errorf("another answered %d", got)
	}
}

func TestServerElsewhere(t *testing.T) {
	got := get(t, start(t, Options{}), "/elsewhere")
	if got.status != 404 || got.header.Get("Server") != "Apache" {
		t.Errorf("%d from %q", got.status, got.header.Get("Server"))
	}
}

func TestSizes(t *testing.T) {
	for name, tc := range map[string]struct {
		o     Options
		query string
		want  int
	}{
		"default":    {Options{}, "", 64 << 10},
		"configured": {Options{Size: 10}, "", 10},
		"asked for":  {Options{Size: 10}, "?size=7", 7},
		"empty":      {Options{}, "?size=0", 0},
		"negative":   {Options{Size: 10}, "?size=-1", 10},
		"too large":  {Options{Size: 10}, "?size=99999999999999", 10},
		"no number":  {Options{Size: 10}, "?size=x", 10},
	} {
		t.Run(name, func(t *testing.T) {
			if got := len(get(t, start(t, tc.o), recording+tc.query).body); got != tc.want {
				t.Errorf("%d bytes, want %d", got, tc.want)
			}
		})
	}
}

// TestAudio checks what the upload's tests rely on: MP3 frames, the same whatever part is asked for, and the digest.
func TestAudio(t *testing.T) {
	whole := audio1000()
	if got := whole[:2]; got[0] != 0xff || got[1] != 0xfb {
		t.Errorf("begins with %x, no MP3 frame", got)
	}
	for off := range 500 {
		part := make([]byte, 500)
		if _, err := Audio(recording).ReadAt(part, int64(off)); err != nil || !bytes.Equal(part, whole[off:off+500]) {
			t.Fatalf("the bytes from %d on differ", off)
		}
	}
	other := make([]byte, 1000)
	_, _ = Audio(recording+"2").ReadAt(other, 0)
	if bytes.Equal(whole, other) {
		t.Error("two recordings are the same")
	}
	sum := sha256.Sum256(whole)
	if got := SHA256(recording, 1000); got != hex.EncodeToString(sum[:]) {
		t.Errorf("digest %s is not that of the bytes", got)
	}
	if got, want := RecordingURL("http://h", "acme1", "c1", 1000), "http://h"+sized; got != want {
		t.Errorf("URL %s, want %s", got, want)
	}
}

func TestAddressInUse(t *testing.T) {
	server := start(t, Options{})
	if second, err := NewServer(Options{Listen: server.Addr()}); err == nil ||
		!strings.Contains(err.Error(), "listen as Exotel") {
		t.Errorf("a second server on %s: %v, %v", server.Addr(), second, err)
	}
}
