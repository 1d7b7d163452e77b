package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caly-dev/caly/internal/resilience"
)

// Bounds of what a store may answer. A tenant names the store, so its answers may be anything. A page of 1,000
// keys, which is the longest answer to what this package asks, has 1.5 MiB and 20,000 tags.
const (
	maxAnswer      = 4 << 20
	maxErrorAnswer = 64 << 10
	maxHeaders     = 64 << 10
	// maxRecords of one answer. The client makes a structure of 700 bytes of each, however short it is in the answer.
	maxRecords = 1100
	maxTags    = 64 << 10
	// maxGap is how many bytes there may be between the beginnings of two tags. It bounds texts, and the attributes
	// of a tag.
	maxGap = 16 << 10
	// answerWithin bounds the body of an answer. Some stores send spaces for minutes while they complete an upload.
	answerWithin = 5 * time.Minute
	// objectStall is how long an object's body may bring no byte.
	objectStall = time.Minute
)

var (
	errAnswerSize    = errors.New("the answer is longer than any answer of S3")
	errAnswerRecords = errors.New("the answer has more records than any answer of S3")
	errAnswerRoot    = errors.New("the answer is not a listing of S3")
	errAnswerSlow    = resilience.Retryable(errors.New("the answer did not end in time"))
	// errRequests ends an operation that takes more requests than it may.
	errRequests = errors.New("the store's listing has more pages than one operation asks for")
)

type contextKey int

const (
	objectKey contextKey = iota
	requestsKey
	rootKey
)

// withObject marks the request whose answer is an object, and bounds it in bytes; -1 means that its reader bounds it.
// The client reads all of an object whose headers it cannot read.
func withObject(ctx context.Context, most int64) context.Context {
	return context.WithValue(ctx, objectKey, most)
}

// withRequests bounds the requests of one operation.
func withRequests(ctx context.Context, most int64) context.Context {
	left := new(atomic.Int64)
	left.Store(most)
	return context.WithValue(ctx, requestsKey, left)
}

// withListing marks a request whose answer must be a listing of a bucket: the client takes any XML for one, even a
// web page.
func withListing(ctx context.Context) context.Context {
	return context.WithValue(ctx, rootKey, "ListBucket")
}

// answers bounds what comes back from a store: bytes, records, and time.
type answers struct {
	next   http.RoundTripper
	within time.Duration
	stall  time.Duration
}

// RoundTrip implements http.RoundTripper. An error answer comes back as the error that errorAnswer returns.
func (a answers) RoundTrip(req *http.Request) (*http.Response, error) {
	if left, ok := req.Context().Value(requestsKey).(*atomic.Int64); ok && left.Add(-1) < 0 {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, errRequests
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	resp, err := a.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if resp.Body == nil || resp.Body == http.NoBody {
		cancel(nil)
	} else {
		resp.Body = a.bounded(req, resp, cancel)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return nil, errorAnswer(req, resp)
	}
	return resp, nil
}

// bounded returns the body of an answer with its bounds.
func (a answers) bounded(req *http.Request, resp *http.Response, cancel context.CancelCauseFunc) io.ReadCloser {
	b := &boundedBody{ReadCloser: resp.Body, cancel: cancel, left: maxAnswer}
	if resp.StatusCode >= http.StatusMultipleChoices {
		b.left = maxErrorAnswer
	} else {
		b.tags.root, _ = req.Context().Value(rootKey).(string)
	}
	after := a.within
	if most, object := req.Context().Value(objectKey).(int64); object && resp.StatusCode < http.StatusMultipleChoices {
		b.left = int(most)
		b.object = true
		b.stall = a.stall
		after = a.stall
	}
	b.timer = time.AfterFunc(after, func() {
		b.late.Store(true)
		cancel(errAnswerSlow)
	})
	return b
}

// boundedBody is the body of one answer.
type boundedBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
	timer  *time.Timer
	late   atomic.Bool
	// left is how many bytes may still come; -1 means that the reader bounds them.
	left int
	// object means that the body is an object, and not XML.
	object bool
	// stall is how long each Read may take; 0 means that the timer runs for the whole body.
	stall time.Duration
	tags  tagCounter
	err   error // sticky
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.stall > 0 {
		b.timer.Reset(b.stall)
	}
	if b.left >= 0 {
		p = p[:min(len(p), b.left+1)]
	}
	n, err := b.ReadCloser.Read(p)
	if b.stall > 0 {
		b.timer.Stop() // a slow reader is not a slow store
	}
	if err != nil && !errors.Is(err, io.EOF) && b.late.Load() {
		err = errAnswerSlow
	}
	if b.left >= 0 {
		b.left -= n
		switch {
		case b.left < 0:
			n = 0
			err = errAnswerSize
		case !b.object && !b.tags.count(p[:n]):
			n = 0
			err = b.tags.fault()
		case errors.Is(err, io.EOF) && b.tags.root != "":
			err = errAnswerRoot // it ended without an element
		}
	}
	b.err = err
	return n, err
}

// Close ends the request. What is left of the answer is not read.
func (b *boundedBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// recordNames are the elements that the client turns into structures.
var recordNames = map[string]bool{
	"CommonPrefixes": true,
	"Contents":       true,
	"DeleteMarker":   true,
	"Deleted":        true,
	"Error":          true,
	"Part":           true,
	"Upload":         true,
	"Version":        true,
}

// tagCounter counts the tags of XML as it passes, without decoding it. What it counts is never less than what a
// decoder finds.
type tagCounter struct {
	records, tags, gap int
	inName             bool
	name               [16]byte
	length             int
	// root is how the name of the first element must begin; "" for any name, and once it was seen.
	root    string
	another bool // the first element has another name
}

// count reports false once there are more tags, or fewer in too many bytes, than an answer of S3 has.
func (c *tagCounter) count(p []byte) bool {
	for len(p) > 0 {
		if c.inName {
			p = c.readName(p)
			continue
		}
		i := bytes.IndexByte(p, '<')
		if i < 0 {
			c.gap += len(p)
			return c.within()
		}
		c.gap += i
		if !c.within() {
			return false
		}
		c.tags++
		c.gap = 0
		c.inName = true
		c.length = 0
		p = p[i+1:]
	}
	return c.within()
}

func (c *tagCounter) within() bool {
	return c.gap <= maxGap && c.tags <= maxTags && c.records <= maxRecords && !c.another
}

// fault is why the answer is not within the bounds.
func (c *tagCounter) fault() error {
	if c.another {
		return errAnswerRoot
	}
	return errAnswerRecords
}

// readName reads the name of a tag, without its prefix, and returns what follows it.
func (c *tagCounter) readName(p []byte) []byte {
	for i, b := range p {
		switch b {
		case ' ', '\t', '\r', '\n', '/', '>', '<':
			c.inName = false
			c.named()
			c.gap += i
			return p[i:]
		case ':':
			c.length = 0
			continue
		}
		if c.length < len(c.name) {
			c.name[c.length] = b
		}
		c.length++
	}
	c.gap += len(p)
	if c.gap > maxGap {
		c.inName = false
	}
	return nil
}

// named looks at a name that is complete.
func (c *tagCounter) named() {
	name := string(c.name[:min(c.length, len(c.name))])
	if c.length <= len(c.name) && recordNames[name] {
		c.records++
	}
	if c.root != "" && !strings.HasPrefix(name, "?") && !strings.HasPrefix(name, "!") {
		c.root, c.another = "", !strings.HasPrefix(name, c.root)
	}
}

// errorAnswer reads an error answer into an *AnswerError or, if S3 did not write it, into a *resilience.HTTPError.
func errorAnswer(req *http.Request, resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	answer := &AnswerError{
		HTTPError: &resilience.HTTPError{
			Host:       req.URL.Host,
			Status:     resp.StatusCode,
			RetryAfter: resilience.RetryAfter(resp.Header, time.Now()),
		},
		Region: cleanCode(resp.Header.Get("X-Amz-Bucket-Region")),
	}
	answer.Time, _ = http.ParseTime(resp.Header.Get("Date"))
	if req.Method == http.MethodHead { // its answer has no body
		return answer
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%w: %w", answer.HTTPError, err)
	}
	errorBody, ok := readError(data)
	if !ok {
		return answer.HTTPError
	}
	answer.Code = errorBody.Code
	answer.Text = cleanText(errorBody.Message)
	answer.Endpoint = cleanCode(errorBody.Endpoint)
	answer.RequestID = cleanCode(errorBody.RequestID)
	if region := cleanCode(errorBody.Region); region != "" {
		answer.Region = region
	}
	if at, err := time.Parse(time.RFC3339, errorBody.ServerTime); err == nil {
		answer.Time = at
	}
	return answer
}

// maxCode bounds an error code, a region or a host name, which become part of conditions and logs.
const maxCode = 64

// cleanCode returns a code of S3, which is a word, and "" for anything else.
func cleanCode(code string) string {
	if len(code) > maxCode {
		return ""
	}
	for _, r := range code {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '.' && r != '-' && r != '_' {
			return ""
		}
	}
	return code
}
