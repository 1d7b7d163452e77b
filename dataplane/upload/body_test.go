package upload

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/reason"
)

func listen(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }

// broken serves text: the first answer breaks off in the middle, the second is as the test says.
func broken(
	text string,
	first http.Header,
	second func(w http.ResponseWriter, r *http.Request, from int),
) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 1 {
			from, _ := strconv.Atoi(strings.Trim(r.Header.Get("Range"), "bytes=-"))
			second(w, r, from)
			return
		}
		for k, v := range first {
			w.Header()[k] = v
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = io.WriteString(w, text[:len(text)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func rest(text, etag, contentRange string) func(http.ResponseWriter, *http.Request, int) {
	return func(w http.ResponseWriter, _ *http.Request, from int) {
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Range", strings.ReplaceAll(contentRange, "FROM", strconv.Itoa(from)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, text[from:])
	}
}

// TestResume verifies that the rest of a file is used only if it certainly belongs to the same file.
func TestResume(t *testing.T) {
	noLeak(t)
	text := frames("\xff\xfb\x90\xc4", 417, 5)
	n := len(text)
	tag := http.Header{"Etag": {`"v1"`}}
	date := http.Header{"Last-Modified": {"Mon, 02 Jan 2006 15:04:05 GMT"}}
	good := fmt.Sprintf("bytes FROM-%d/%d", n-1, n)
	tests := map[string]struct {
		first    http.Header
		second   func(http.ResponseWriter, *http.Request, int)
		wantCode string // empty: the whole text
	}{
		"same ETag":          {tag, rest(text, `"v1"`, good), ""},
		"length not said":    {tag, rest(text, `"v1"`, fmt.Sprintf("bytes FROM-%d/*", n-1)), ""},
		"another ETag":       {tag, rest(text, `"v2"`, good), reason.SourceChanged},
		"no ETag any more":   {tag, rest(text, "", good), reason.SourceChanged},
		"no range said":      {tag, rest(text, `"v1"`, ""), reason.SourceChanged},
		"another start":      {tag, rest(text, `"v1"`, fmt.Sprintf("bytes 0-%d/%d", n-1, n)), reason.SourceChanged},
		"another length":     {tag, rest(text, `"v1"`, fmt.Sprintf("bytes FROM-%d/%d", n, n+1)), reason.SourceChanged},
		"a part of the rest": {tag, rest(text, `"v1"`, fmt.Sprintf("bytes FROM-%d/%d", n-2, n)), reason.SourceChanged},
		"200": {
			tag,
			func(w http.ResponseWriter, _ *http.Request, _ int) { _, _ = io.WriteString(w, text) },
			reason.SourceChanged,
		},
		"416": {tag, func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, reason.SourceChanged},
		"gone": {
			tag,
			func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusNotFound) },
			reason.SourceNotReady,
		},
		"weak ETag only": {http.Header{"Etag": {`W/"v1"`}}, rest(text, `W/"v1"`, good), reason.SourceBroken},
		"no validator":   {nil, rest(text, `"v1"`, good), reason.SourceBroken},
		"by date": {date, func(w http.ResponseWriter, r *http.Request, from int) {
			if got := r.Header.Get("If-Range"); got != date.Get("Last-Modified") {
				t.Errorf("If-Range: %q", got)
			}
			w.Header().Set("Last-Modified", date.Get("Last-Modified"))
			rest(text, "", good)(w, r, from)
		}, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server := serve(t, broken(text, tc.first, tc.second))
			got, err := read(newTestSource(t, loopback, hostOf(server)), server.URL+"/x.mp3", t)
			if tc.wantCode != "" {
				fault := asFault(err)
				if err == nil || fault.code != tc.wantCode || fault.kind != later {
					t.Fatalf("got %d bytes, %v; want %s", len(got), err, tc.wantCode)
				}
				return
			}
			if err != nil || got != text {
				t.Errorf("got %d bytes, %v; want the %d of the source", len(got), err, n)
			}
		})
	}
}

// TestStallResumes verifies that the rest of a silent source is requested on another connection.
func TestStallResumes(t *testing.T) {
	noLeak(t)
	text := frames("\xff\xfb\x90\xc4", 417, 8)
	var n atomic.Int32
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		if n.Add(1) == 1 {
			w.Header().Set("Content-Length", strconv.Itoa(len(text)))
			_, _ = io.WriteString(w, text[:1500])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		http.ServeContent(w, r, "x.mp3", time.Time{}, strings.NewReader(text))
	})
	got, err := read(newTestSource(t, loopback, hostOf(server)), server.URL+"/x.mp3", t)
	if err != nil || got != text || n.Load() != 2 {
		t.Errorf("got %d bytes, %v, in %d requests; want %d in 2", len(got), err, n.Load(), len(text))
	}
}

func TestExtension(t *testing.T) {
	for in, want := range map[[2]string]string{
		{"https://h/a/b.mp3", ""}:               ".mp3",
		{"https://h/a/b.WAV?x=1", "audio/mpeg"}: ".wav",
		{"https://h/a/b", "audio/x-wav"}:        ".wav",
		{"https://h/a/b", ""}:                   ".mp3",
		{"https://h/a/b.waytoolongforone", ""}:  ".mp3",
		{"https://h/a.wav/b", "audio/ogg"}:      ".ogg",
	} {
		if got := extensionOf(in[0], in[1]); got != want {
			t.Errorf("extensionOf(%q, %q) = %q, want %q", in[0], in[1], got, want)
		}
	}
}

func TestObjectType(t *testing.T) {
	for in, want := range map[[2]string]string{
		{"https://h/b.mp3", "audio/mp3"}:                "audio/mp3",
		{"https://h/b.mp3", "application/octet-stream"}: "audio/mpeg",
		{"https://h/b.wav", ""}:                         "audio/wav",
		{"https://h/b.ogg", ""}:                         "application/octet-stream",
	} {
		if got := (&body{url: in[0], contentType: in[1]}).objectType(); got != want {
			t.Errorf("objectType of %q, %q = %q, want %q", in[0], in[1], got, want)
		}
	}
}
