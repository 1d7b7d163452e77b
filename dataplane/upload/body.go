package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/caly-dev/caly/internal/contentrange"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/resilience"
)

// maxResumes of one body. Each is a request with tries of its own.
const maxResumes = 5

// body is a recording being fetched. When the connection breaks it asks for the rest and goes on, so that its reader
// never notices; when the rest is not of the same file, it fails.
type body struct {
	src  *source
	ctx  context.Context
	stop context.CancelCauseFunc
	url  string

	// size in bytes, -1 when the source does not say.
	size int64
	// contentType as sent, without parameters; lower case.
	contentType string
	// validator header and value by which the source recognises the file; empty when it gave none that is strong enough.
	validatorName, validator string

	cur     *watched
	head    []byte // read ahead, to look at
	fetched int64  // bytes received, of all connections
	resumes int
	err     error // sticky

	span trace.Span // of the download; nil if there is none
}

// open starts to fetch a recording and looks at its beginning. An empty body or an HTML page is not a recording yet.
func (s *source) open(ctx context.Context, rawURL string) (*body, error) {
	b := &body{src: s, url: rawURL}
	b.ctx, b.stop = context.WithCancelCause(ctx)
	b.cur = newWatched(b.ctx, s.stall)
	resp, err := s.get(b.cur.ctx, rawURL, nil, http.StatusOK) //nolint:bodyclose // b.close closes it
	if err == nil {
		err = b.begin(resp)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// begin checks the answer's headers and the first bytes, and stores what a resumed request must match.
func (b *body) begin(resp *http.Response) error {
	b.cur.ReadCloser = resp.Body
	b.size = resp.ContentLength
	b.contentType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	b.validatorName, b.validator = validatorOf(resp.Header)
	if err := checkAnswer(resp); err != nil {
		return err
	}
	return b.peek()
}

// validatorOf prefers a strong ETag (RFC 9110 forbids a weak one in If-Range), then the date.
func validatorOf(h http.Header) (name, value string) {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return "ETag", tag
	}
	if date := h.Get("Last-Modified"); date != "" {
		return "Last-Modified", date
	}
	return "", ""
}

// checkAnswer returns a fault for an answer that cannot be a recording: it is empty or encoded, or came over
// HTTP/1 with neither a length nor chunks.
func checkAnswer(resp *http.Response) error {
	host := resp.Request.URL.Host
	if resp.ContentLength == 0 {
		return notReady("%s answered with an empty body: the recording is not there yet", host)
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return brokenFault(
			"%s answered with content encoding %q although none was accepted: the bytes would not be the recording's",
			host,
			e,
		)
	}
	if resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && resp.ProtoMajor == 1 {
		return brokenFault("%s sent neither a length nor chunks: a broken connection would look like the end", host)
	}
	return nil
}

// peek reads the first bytes.
func (b *body) peek() error {
	head := make([]byte, headSize)
	n, err := io.ReadFull(readerFunc(b.receive), head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if n == 0 {
		return notReady("the source answered with an empty body: the recording is not there yet")
	}
	b.head = head[:n]
	sniffed, _, _ := mime.ParseMediaType(http.DetectContentType(b.head))
	for _, t := range []string{b.contentType, sniffed} {
		if t == "text/html" || t == "application/json" || t == "application/xml" || t == "text/xml" {
			return notReady("the source answered with %s instead of audio: the recording is not there yet", t)
		}
	}
	if !isAudio(b.head) {
		return notAudio(b.contentType, b.head)
	}
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Read returns the recording's next bytes.
func (b *body) Read(p []byte) (int, error) {
	if len(b.head) > 0 {
		n := copy(p, b.head)
		b.head = b.head[n:]
		return n, nil
	}
	return b.receive(p)
}

// receive reads from the connection, and from the next one when it breaks.
func (b *body) receive(p []byte) (int, error) {
	for b.err == nil {
		n, err := b.cur.Read(p)
		b.fetched += int64(n)
		if err == nil {
			return n, nil
		}
		b.err = b.afterEnd(err)
		if n > 0 {
			return n, nil
		}
	}
	return 0, b.err
}

// afterEnd tells how to go on after a connection's end: nil with the next one open, io.EOF, or a fault.
func (b *body) afterEnd(err error) error {
	if b.fetched == b.size || b.size < 0 && errors.Is(err, io.EOF) {
		return io.EOF // all of it, however the connection ended then
	}
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if b.validator == "" {
		return brokenFault("the source broke off after %d bytes (%s) and gave neither an ETag nor a date to go on "+
			"with; the whole will be tried again", b.fetched, lostConnection(err)).withDetail(err)
	}
	if b.resumes == maxResumes {
		return brokenFault("the source broke off %d times, last after %d bytes (%s); the whole will be tried again",
			b.resumes+1, b.fetched, lostConnection(err)).withDetail(err)
	}
	b.resumes++
	return b.resume()
}

// resume asks for the bytes from fetched on, of the same file.
func (b *body) resume() error {
	_ = b.cur.Close() // broken already
	if err := pause(b.ctx, time.Duration(b.resumes)*100*time.Millisecond); err != nil {
		return err
	}
	b.src.resumed()
	b.cur = newWatched(b.ctx, b.src.stall)
	resp, err := b.src.get(b.cur.ctx, b.url, http.Header{ //nolint:bodyclose // b.close closes it
		"Range":    {fmt.Sprintf("bytes=%d-", b.fetched)},
		"If-Range": {b.validator},
	}, http.StatusPartialContent, http.StatusOK, http.StatusRequestedRangeNotSatisfiable)
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if err != nil {
		return err
	}
	b.cur.ReadCloser = resp.Body
	return b.checkRest(resp)
}

// checkRest refuses whatever is not certainly the rest of the same file.
func (b *body) checkRest(resp *http.Response) error {
	changed := func(why string) error {
		return &fault{
			kind:  later,
			code:  reason.SourceChanged,
			cause: resilience.Abort(errors.New(why)),
			text: fmt.Sprintf(
				"the source broke off after %d bytes and could not be continued: %s; the whole will be tried again",
				b.fetched,
				why,
			),
		}
	}
	if resp.StatusCode != http.StatusPartialContent {
		return changed(fmt.Sprintf("it answered %d to a request for the rest", resp.StatusCode))
	}
	if got := resp.Header.Get(b.validatorName); got != b.validator {
		return changed("its " + b.validatorName + " is another")
	}
	first, last, total, err := contentrange.Parse(resp.Header.Get("Content-Range"))
	switch {
	case err != nil:
		return changed(err.Error())
	case first != b.fetched:
		return changed(fmt.Sprintf("it sent from byte %d", first))
	case total >= 0 && last != total-1:
		return changed("it sent a part of the rest")
	case b.size >= 0 && last != b.size-1, b.size >= 0 && total >= 0 && total != b.size:
		return changed("its length is another")
	case b.size < 0 && total >= 0:
		// The length is known from now on; the reader was told that it is not and goes on to the end all the same.
		b.size = total
	}
	return nil
}

// errBodyEnded is what Read returns once end was called.
var errBodyEnded = errors.New("the fetch was ended")

// end makes a Read that is under way return soon. Unlike close it may be called meanwhile.
func (b *body) end() { b.stop(errBodyEnded) }

// close ends the fetch. No Read may be under way.
func (b *body) close() {
	b.end()
	_ = b.cur.Close() // nothing was written
	if b.span != nil {
		b.span.SetAttributes(attribute.Int64("caly.bytes", b.fetched), attribute.Int("caly.resumes", b.resumes))
		b.span.End()
	}
}

// extension of the object's key: that of the URL, else by content type. Both are the same at every try.
func (b *body) extension() string { return extensionOf(b.url, b.contentType) }

// extensionOf returns the file extension from the URL's path, else from the content type, else ".mp3".
func extensionOf(rawURL, contentType string) string {
	if address, err := url.Parse(rawURL); err == nil {
		if ext := strings.ToLower(path.Ext(address.Path)); len(ext) > 1 && len(ext) <= 9 {
			return ext
		}
	}
	if ext := extensions[contentType]; ext != "" {
		return ext
	}
	return ".mp3"
}

var extensions = map[string]string{
	"audio/mpeg":     ".mp3",
	"audio/mp3":      ".mp3",
	"audio/wav":      ".wav",
	"audio/x-wav":    ".wav",
	"audio/wave":     ".wav",
	"audio/vnd.wave": ".wav",
	"audio/ogg":      ".ogg",
	"audio/mp4":      ".m4a",
}

// objectType is the content type to store: what the source says if it is audio, else by the extension.
func (b *body) objectType() string {
	if strings.HasPrefix(b.contentType, "audio/") {
		return b.contentType
	}
	switch b.extension() {
	case ".wav":
		return "audio/wav"
	case ".mp3":
		return "audio/mpeg"
	}
	return "application/octet-stream"
}

// pause waits, or returns why it must not.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
