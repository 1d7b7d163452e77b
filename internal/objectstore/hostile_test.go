package objectstore_test

import (
	"bufio"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/resilience"
)

// hostileStop is where a hostile store ends an answer that its client reads without a bound.
const hostileStop = 300 << 20

// hostile is a store whose answers have no end. It counts what its clients take, and how the heap grows meanwhile.
type hostile struct {
	url      string
	sent     atomic.Int64
	requests atomic.Int64
	base     uint64
	peak     atomic.Uint64
}

// newHostile starts a store that reads a request and then answers it with what answer writes.
func newHostile(t *testing.T, answer func(w *hostileWriter, r *http.Request)) *hostile {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{url: "http://" + listener.Addr().String()}
	h.base = heap()
	ctx, cancel := context.WithCancel(context.Background())
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				defer stop()
				h.serve(conn, answer)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		connections.Wait()
	})
	return h
}

func (h *hostile) serve(conn net.Conn, answer func(w *hostileWriter, r *http.Request)) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		h.requests.Add(1)
		w := &hostileWriter{h: h, conn: conn}
		answer(w, req)
		if w.err != nil {
			return
		}
	}
}

// hostileWriter writes an answer as it is, without net/http.
type hostileWriter struct {
	h     *hostile
	conn  net.Conn
	total int64
	err   error
}

// write sends a text. It reports false once the client is gone, or has taken more than any client should.
func (w *hostileWriter) write(text string) bool {
	if w.err != nil {
		return false
	}
	n, err := io.WriteString(w.conn, text)
	w.total += int64(n)
	w.h.sent.Add(int64(n))
	if grown := heap(); grown > w.h.peak.Load() {
		w.h.peak.Store(grown)
	}
	if err == nil && w.total > hostileStop {
		err = io.ErrShortWrite
	}
	w.err = err
	return err == nil
}

// repeat sends a text again and again.
func (w *hostileWriter) repeat(text string) {
	block := strings.Repeat(text, 1+(256<<10)/len(text))
	for w.write(block) {
		runtime.Gosched()
	}
}

// page sends a whole answer.
func (w *hostileWriter) page(status, body string) {
	w.write(fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s", status,
		len(body), body))
}

// grown is how much the heap has grown since the store started, at its highest.
func (h *hostile) grown() int64 { return int64(h.peak.Load()) - int64(h.base) }

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// open returns a bucket of the store.
func (h *hostile) open(t *testing.T) *objectstore.Bucket {
	t.Helper()
	transport := objectstore.NewTransport(loopback, 2)
	t.Cleanup(transport.CloseIdleConnections)
	b, err := objectstore.New(objectstore.Config{
		Endpoint:        h.url,
		AccessKeyID:     "key",
		SecretAccessKey: "secret",
		Bucket:          "bucket",
	}, transport)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const endless = "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n"

// operations are all requests whose answers the client reads itself.
var operations = map[string]func(context.Context, *objectstore.Bucket) error{
	"probe":        func(ctx context.Context, b *objectstore.Bucket) error { return b.Probe(ctx) },
	"write probe":  func(ctx context.Context, b *objectstore.Bucket) error { return last(b.ProbeWrite(ctx, "k")) },
	"list parts":   func(ctx context.Context, b *objectstore.Bucket) error { return second(b.Parts(ctx, "k", "id")) },
	"list uploads": func(ctx context.Context, b *objectstore.Bucket) error { return last(b.Uploads(ctx, "k")) },
	"read back": func(ctx context.Context, b *objectstore.Bucket) error {
		_, _, err := b.Digest(ctx, "k", 64, nil)
		return err
	},
	"stat":            func(ctx context.Context, b *objectstore.Bucket) error { return last(b.Stat(ctx, "k")) },
	"delete a prefix": func(ctx context.Context, b *objectstore.Bucket) error { return last(b.DeletePrefix(ctx, "k/")) },
	"abort a prefix":  func(ctx context.Context, b *objectstore.Bucket) error { return b.AbortIncomplete(ctx, "k/") },
	"begin an upload": func(ctx context.Context, b *objectstore.Bucket) error {
		return last(b.BeginUpload(ctx, objectstore.Object{Key: "k", ContentType: "audio/wav"}))
	},
	"put": func(ctx context.Context, b *objectstore.Bucket) error {
		return last(b.Put(ctx, objectstore.Object{
			Key:         "k",
			Body:        strings.NewReader("x"),
			Size:        1,
			ContentType: "audio/wav",
		}))
	},
	"complete": func(ctx context.Context, b *objectstore.Bucket) error {
		return b.CompleteUpload(ctx, "k", "id", []objectstore.Part{{Number: 1, ETag: "e"}})
	},
	"remove": func(ctx context.Context, b *objectstore.Bucket) error { return b.Remove(ctx, "k") },
}

func last[T any](_ T, err error) error { return err }

// TestEndlessAnswers asks stores whose answers have no end. Whatever the request, the client takes a few megabytes
// at most, since that is what the sockets hold, and keeps less.
func TestEndlessAnswers(t *testing.T) {
	const record = "<Contents><Key>k/a</Key></Contents><Upload><Key>k</Key><UploadId>i</UploadId></Upload>" +
		"<Part><PartNumber>1</PartNumber></Part>"
	answers := map[string]func(w *hostileWriter, r *http.Request){
		"records": func(w *hostileWriter, _ *http.Request) {
			w.write(endless + "<ListBucketResult>")
			w.repeat(record)
		},
		"empty records": func(w *hostileWriter, _ *http.Request) {
			w.write(endless + "<ListBucketResult>")
			w.repeat("<Contents/><Upload/><Part/>")
		},
		"one text": func(w *hostileWriter, _ *http.Request) {
			w.write(endless + "<ListBucketResult><Contents><Key>")
			w.repeat("a")
		},
		"attributes": func(w *hostileWriter, _ *http.Request) {
			w.write(endless + "<ListBucketResult ")
			w.repeat(`a="" `)
		},
		"no XML": func(w *hostileWriter, _ *http.Request) { w.write(endless); w.repeat(" ") },
		"headers": func(w *hostileWriter, _ *http.Request) {
			w.write("HTTP/1.1 200 OK\r\n")
			w.repeat("X-Amz-Meta-A: aaaaaaaaaaaaaaaaaaaaaa\r\n")
		},
		"an error": func(w *hostileWriter, _ *http.Request) {
			w.write("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n<Error><Code>")
			w.repeat("a")
		},
	}
	for kind, answer := range answers {
		for operation, ask := range operations {
			t.Run(kind+", "+operation, func(t *testing.T) {
				hostile := newHostile(t, answer)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				err := ask(ctx, hostile.open(t))
				t.Logf("taken %d MiB, heap grown by %d MiB: %.200v", hostile.sent.Load()>>20, hostile.grown()>>20, err)
				if hostile.sent.Load() > 32<<20 || hostile.grown() > 32<<20 {
					t.Errorf(
						"the client took %d MiB, and the heap grew by %d MiB",
						hostile.sent.Load()>>20,
						hostile.grown()>>20,
					)
				}
			})
		}
	}
}

// TestEndlessListings asks stores whose pages go on for ever. Each operation ends after a bounded number of requests.
func TestEndlessListings(t *testing.T) {
	const (
		list = "<ListBucketResult><IsTruncated>true</IsTruncated>" +
			"<NextContinuationToken>t%d</NextContinuationToken>%s</ListBucketResult>"
		uploads = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated>" +
			"<NextKeyMarker>k%[1]d</NextKeyMarker>%[2]s</ListMultipartUploadsResult>"
		parts = "<ListPartsResult><IsTruncated>true</IsTruncated>" +
			"<NextPartNumberMarker>%[1]d</NextPartNumberMarker>%[2]s</ListPartsResult>"
	)
	tests := map[string]struct {
		page, record string
		operation    string
		wantRequests int64
		wantErr      error
	}{
		"objects, empty pages": {
			page:         list,
			operation:    "delete a prefix",
			wantRequests: 40,
			wantErr:      objectstore.ErrUnfinished,
		},
		"objects": {
			page:         list,
			record:       "<Contents><Key>k/a</Key></Contents>",
			operation:    "delete a prefix",
			wantRequests: 60,
			wantErr:      objectstore.ErrUnfinished,
		},
		"uploads, empty pages": {
			page:         uploads,
			operation:    "abort a prefix",
			wantRequests: 1,
			wantErr:      objectstore.ErrUnfinished,
		},
		"uploads": {
			page:         uploads,
			record:       "<Upload><Key>k/a</Key><UploadId>i</UploadId></Upload>",
			operation:    "abort a prefix",
			wantRequests: 1010,
			wantErr:      objectstore.ErrUnfinished,
		},
		"parts": {
			page:         parts,
			record:       "<Part><PartNumber>1</PartNumber></Part>",
			operation:    "list parts",
			wantRequests: 20,
		},
		"parts, empty pages":   {page: parts, operation: "list parts", wantRequests: 100},
		"a probe, empty pages": {page: list, operation: "probe", wantRequests: 1},
		"a probe, pages of one": {
			page:         list,
			record:       "<Contents><Key>k/a</Key></Contents>",
			operation:    "probe",
			wantRequests: 1,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			hostile := newHostile(t, func(w *hostileWriter, r *http.Request) {
				switch r.Method {
				case http.MethodGet:
					w.page("200 OK", fmt.Sprintf(tc.page, asked.Add(1), strings.Repeat(tc.record, 1000)))
				case http.MethodPost:
					w.page("200 OK", "<DeleteResult></DeleteResult>")
				default:
					w.write("HTTP/1.1 204 No Content\r\n\r\n")
				}
			})
			err := operations[tc.operation](t.Context(), hostile.open(t))
			if hostile.requests.Load() > tc.wantRequests {
				t.Errorf("%d requests, want at most %d", hostile.requests.Load(), tc.wantRequests)
			}
			if tc.wantErr != nil && !errors.Is(err, tc.wantErr) || (tc.operation == "probe") != (err == nil) {
				t.Errorf("got %v, want %v", err, tc.wantErr)
			}
		})
	}
}

// TestSlowAnswers asks stores that send an answer byte by byte, and never end it.
func TestSlowAnswers(t *testing.T) {
	const betweenBytes = 20 * time.Millisecond
	dribble := func(w *hostileWriter, _ *http.Request) {
		w.write(endless + "<ListBucketResult>")
		for w.write(" ") {
			time.Sleep(betweenBytes)
		}
	}
	silent := func(w *hostileWriter, _ *http.Request) {
		w.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na")
		_, _ = io.Copy(io.Discard, w.conn) // until the client leaves
		w.err = io.EOF
	}
	asks := maps.Clone(operations)
	asks["read an object"] = func(ctx context.Context, b *objectstore.Bucket) error { return last(b.Head(ctx, "k", 50)) }
	for operation, ask := range asks {
		t.Run(operation, func(t *testing.T) {
			answer := dribble
			if operation == "read an object" {
				answer = silent
			}
			hostile := newHostile(t, answer)
			transport := objectstore.NewTransport(loopback, 2)
			defer transport.CloseIdleConnections()
			transport.SetPatience(200*time.Millisecond, 200*time.Millisecond)
			b, err := objectstore.New(objectstore.Config{
				Endpoint:        hostile.url,
				AccessKeyID:     "key",
				SecretAccessKey: "secret",
				Bucket:          "bucket",
			}, transport)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			err = ask(ctx, b)
			if ctx.Err() != nil {
				t.Fatalf("it held its caller for as long as it could: %v", err)
			}
			switch operation {
			case "put", "remove": // the status has said everything
			default:
				if resilience.Classify(err) != resilience.Transient {
					t.Errorf("got %v, want a transient error", err)
				}
			}
		})
	}
}

// TestLyingAnswers asks stores that put text of their own into errors. None of it is shown, but for the message of an
// error of S3, which is cut and on one line.
func TestLyingAnswers(t *testing.T) {
	const marker = "SECRET"
	long := strings.Repeat(marker, 2000)
	tests := map[string]struct {
		status, body string
		wantReason   objectstore.Reason
	}{
		"a long code": {"403 Forbidden", "<Error><Code>" + long + "</Code></Error>",
			objectstore.EndpointUnreachable},
		"a code with a line": {"403 Forbidden", "<Error><Code>Access\nSECRET</Code></Error>",
			objectstore.EndpointUnreachable},
		"a message": {
			"403 Forbidden",
			"<Error><Code>AccessDenied</Code><Message>" + strings.Repeat("line\n\x7f", 1000) +
				"</Message></Error>",
			objectstore.AccessDenied,
		},
		"a region": {"400 Bad Request", "<Error><Code>InvalidRegion</Code><Region>" + long + "</Region><Endpoint>a " +
			marker +
			"</Endpoint></Error>", objectstore.RegionMismatch},
		"a status text": {"599 " + marker, "", objectstore.EndpointUnreachable},
		"a page": {
			"404 Not Found",
			"<html><body>SECRET</body></html>",
			objectstore.EndpointUnreachable,
		},
		"a page without an error": {"200 OK", "<html><body>SECRET</body></html>", objectstore.EndpointUnreachable},
		"another root":            {"200 OK", "<SECRET/>", objectstore.EndpointUnreachable},
		"a redirect":              {"302 Found\r\nLocation: http://SECRET/", "", objectstore.EndpointUnreachable},
		"no such bucket": {
			"404 Not Found",
			"<Error><Code>NoSuchBucket</Code></Error>",
			objectstore.BucketNotFound,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			hostile := newHostile(t, func(w *hostileWriter, _ *http.Request) { w.page(tc.status, tc.body) })
			b := hostile.open(t)
			err := b.Probe(t.Context())
			var probe *objectstore.ProbeError
			if !errors.As(err, &probe) || probe.Reason != tc.wantReason || len(err.Error()) > 700 ||
				strings.ContainsAny(err.Error(), "\n\x7f") {
				t.Errorf("got %v, want reason %s", err, tc.wantReason)
			}
			for operation, ask := range operations {
				if err := ask(t.Context(), b); err != nil && strings.Contains(err.Error(), marker) {
					t.Errorf("%s shows the store's words: %v", operation, err)
				}
			}
		})
	}
}

// TestDeleteErrors asks a store that refuses each deletion with words of its own. They are shown without line breaks;
// the name of the object is not.
func TestDeleteErrors(t *testing.T) {
	hostile := newHostile(t, func(w *hostileWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.page("200 OK", "<ListBucketResult><Contents><Key>k/a</Key></Contents></ListBucketResult>")
			return
		}
		w.page("200 OK", "<DeleteResult><Error><Key>SECRET</Key><Code>AccessDenied</Code>"+
			"<Message>No\nrights</Message></Error></DeleteResult>")
	})
	_, err := hostile.open(t).DeletePrefix(t.Context(), "k/")
	if err == nil || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), `"No rights"`) ||
		objectstore.CauseOf(err).Reason != objectstore.AccessDenied {
		t.Errorf("got %v, want AccessDenied and the store's message", err)
	}
}

// FuzzTagCounter cuts answers into two pieces anywhere. The counts do not depend on the cut, and are never less
// than a decoder's.
func FuzzTagCounter(f *testing.F) {
	for _, s := range []string{"", "<", "<Contents/>", "<a:Contents></a:Contents>",
		"<x><Contents a='>'/><Upload ><Part\n/></x>", "<!-- <Contents> --><Contents/>",
		"<?xml version='1.0'?><ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>", "<<Contents>",
		"<Contents", "<a:b:Contents/>"} {
		f.Add(s, len(s)/2)
	}
	f.Fuzz(func(t *testing.T, s string, at int) {
		if at < 0 || at > len(s) {
			at = 0
		}
		ok, records, tags := objectstore.CountTags([]byte(s))
		cutOK, cutRecords, cutTags := objectstore.CountTags([]byte(s[:at]), []byte(s[at:]))
		if ok != cutOK || ok && (records != cutRecords || tags != cutTags) {
			t.Fatalf("whole: %v, %d, %d; cut at %d: %v, %d, %d", ok, records, tags, at, cutOK, cutRecords, cutTags)
		}
		if !ok {
			return
		}
		found := 0
		elements := 0
		for decoder := xml.NewDecoder(strings.NewReader(s)); ; {
			token, err := decoder.Token()
			if err != nil {
				break
			}
			if start, is := token.(xml.StartElement); is {
				elements++
				if start.Name.Local == "Contents" || start.Name.Local == "Part" {
					found++
				}
			}
		}
		if found > records || elements > tags {
			t.Fatalf(
				"a decoder finds %d records in %d elements, counted were %d and %d", found, elements, records, tags,
			)
		}
	})
}
