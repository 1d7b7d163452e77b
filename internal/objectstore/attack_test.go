package objectstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/resilience"
)

// oddAnswer is what a store or something before it says to a request.
type oddAnswer struct {
	status int
	header map[string]string
	body   string
}

func (a oddAnswer) write(w http.ResponseWriter) {
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// oddStore answers uploads in parts as S3 does, but for the requests that a test chooses.
func oddStore(t *testing.T, chosen func(*http.Request) bool, odd oddAnswer) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch values := r.URL.Query(); {
		case chosen(r):
			odd.write(w)
		case values.Has("uploads"):
			_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>k</Key>"+
				"<UploadId>u</UploadId></InitiateMultipartUploadResult>")
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

const xmlHead = `<?xml version="1.0" encoding="UTF-8"?>`

func xmlError(code, message string) string {
	return fmt.Sprintf("%s<Error><Code>%s</Code><Message>%s</Message></Error>", xmlHead, code, message)
}

// toUTF16 encodes ASCII in little endian with a byte order mark.
func toUTF16(s string) string {
	out := "\xff\xfe"
	for _, r := range s {
		out += string([]byte{byte(r), 0})
	}
	return out
}

// oddCase is what an answer must mean for an upload.
type oddCase struct {
	size   int
	answer oddAnswer
	class  resilience.Class
	reason objectstore.Reason
	text   string
}

func (c oddCase) chosen(r *http.Request) bool {
	if c.size > objectstore.PartSize {
		return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
	}
	return r.Method == http.MethodPut
}

// whole answers the PUT of an object, and ends the completion of an upload in parts.
func whole(status int, body string, header ...string) oddCase {
	return oddCaseOf(10, status, body, header)
}

func ends(status int, body string) oddCase {
	return oddCaseOf(2*objectstore.PartSize, status, body, nil)
}

func oddCaseOf(size, status int, body string, header []string) oddCase {
	c := oddCase{size: size, answer: oddAnswer{status, map[string]string{}, body}}
	for i := 0; i < len(header); i += 2 {
		c.answer.header[header[i]] = header[i+1]
	}
	return c
}

// again, stop and nobody are what an answer means: retry it, change something, or no store has answered.
func (c oddCase) again(text string) oddCase {
	c.class = resilience.Transient
	c.text = text
	return c
}

func (c oddCase) stop(reason objectstore.Reason, text string) oddCase {
	c.class = resilience.Permanent
	c.reason = reason
	c.text = text
	return c
}

func (c oddCase) nobody() oddCase { return c.again("no S3 answer from") }

const page = "<!DOCTYPE html><html><body><h1>Sign in</h1></body></html>"

// oddAnswers are what real stores, proxies and portals answered.
func oddAnswers() map[string]oddCase {
	const (
		aborted = "A conflicting conditional operation is currently in progress against this resource. Try again."
		skewed  = "<Error><Code>RequestTimeTooSkewed</Code><Message>m</Message><ServerTime>%s</ServerTime></Error>"
		bomb    = `<!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Error><Code>&b;</Code></Error>`
		latin   = "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><Error><Code>QuotaExceeded</Code>" +
			"<Message>Quota d\xe9pass\xe9</Message></Error>"
		ascii    = `<?xml version="1.0" encoding="us-ascii"?><Error><Code>NoSuchBucket</Code></Error>`
		prefixed = `<e:Error xmlns:e="http://s3.amazonaws.com/doc/2006-03-01/"><e:Code>QuotaExceeded</e:Code></e:Error>`
		envelope = "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code></Error></ErrorResponse>"
		moved    = "<Error><Code>TemporaryRedirect</Code><Endpoint>bucket.s3-eu-west-3.amazonaws.com</Endpoint></Error>"
	)
	return map[string]oddCase{
		"ends: InternalError": ends(200, xmlError("InternalError", "Please try again.")).again("InternalError"),
		"ends: SlowDown after spaces": ends(200, xmlHead+strings.Repeat(" \n", 99)+
			"<Error><Code>SlowDown</Code></Error>").again("SlowDown"),
		"ends: AccessDenied": ends(200, xmlError("AccessDenied", "Access Denied")).
			stop(objectstore.AccessDenied, "Access Denied"),
		"ends: a page":              ends(200, page).nobody(),
		"ends: nothing":             ends(200, "").nobody(),
		"ends: JSON":                ends(200, `{"ok":true}`).nobody(),
		"ends: half a tag":          ends(200, "<CompleteMultipartUploadResu").nobody(),
		"ends: 204":                 ends(204, "").nobody(),
		"ends: 502 of a balancer":   ends(502, page).nobody(),
		"301 without a region":      whole(301, "").nobody(),
		"302 to a portal":           whole(302, page, "Location", "http://portal.test/login").nobody(),
		"308":                       whole(308, "", "Location", "https://other.test/").nobody(),
		"307 with another endpoint": whole(307, moved).stop(objectstore.EndpointMismatch, "eu-west-3"),
		"301 with another region": whole(301, xmlError("PermanentRedirect", "m"), "X-Amz-Bucket-Region", "eu-west-3").
			stop(objectstore.EndpointMismatch, "eu-west-3"),
		"its clock is behind": whole(403, fmt.Sprintf(skewed, "2020-01-01T00:00:00Z")).
			stop(objectstore.ClockSkew, "2020-01-01"),
		"its clock is ahead, with milliseconds": whole(403, fmt.Sprintf(skewed, "2099-01-01T00:00:00.123Z")).
			stop(objectstore.ClockSkew, "2099-01-01"),
		"Latin-1":  whole(403, latin).stop(objectstore.QuotaExceeded, "dépassé"),
		"US-ASCII": whole(404, ascii).stop(objectstore.BucketNotFound, "NoSuchBucket"),
		"UTF-16":   whole(403, toUTF16(xmlError("AccessDenied", "no"))).stop(objectstore.AccessDenied, "403"),
		"a byte order mark": whole(403, "\xef\xbb\xbf"+xmlError("QuotaExceeded", "x")).
			stop(objectstore.QuotaExceeded, ""),
		"a namespace":             whole(403, prefixed).stop(objectstore.QuotaExceeded, "QuotaExceeded"),
		"an envelope":             whole(403, envelope).stop(objectstore.CredentialsExpired, "ExpiredToken"),
		"a page of a firewall":    whole(403, page).nobody(),
		"a page of a balancer":    whole(502, page).nobody(),
		"JSON":                    whole(503, `{"error":"busy"}`).nobody(),
		"429 without a body":      whole(429, "", "Retry-After", "7").nobody(),
		"a code of 1000 letters":  whole(400, xmlError(strings.Repeat("x", 1000), "m")).nobody(),
		"an entity bomb":          whole(403, bomb).nobody(),
		"400 RequestTimeout":      whole(400, xmlError("RequestTimeout", "Timed out.")).again("RequestTimeout"),
		"409 OperationAborted":    whole(409, xmlError("OperationAborted", aborted)).again("OperationAborted"),
		"400 ThrottlingException": whole(400, xmlError("ThrottlingException", "m")).again("ThrottlingException"),
		"controls and a long text": whole(400, xmlError("Odd", "a&#10;b&#x9;c\u202e"+strings.Repeat("\u4e2d", 4000))).
			stop("", "Odd"),
		"200 with an error":      whole(200, xmlError("InternalError", "later")).nobody(),
		"200 with a page":        whole(200, page).nobody(),
		"200 with an empty ETag": whole(200, "", "ETag", `""`).nobody(),
		"204 without an ETag":    whole(204, "").nobody(),
	}
}

// TestOddAnswers uploads to stores with odd answers. No such answer counts as success, and each has the reason that it
// has for an upload. What S3 did not write is not quoted.
func TestOddAnswers(t *testing.T) {
	for name, tc := range oddAnswers() {
		t.Run(name, func(t *testing.T) {
			b := openOdd(t, oddStore(t, tc.chosen, tc.answer).URL)
			_, err := b.Put(t.Context(), objectstore.Object{
				Key:  "k",
				Body: bytes.NewReader(make([]byte, tc.size)),
				Size: int64(tc.size),
			})
			if err == nil {
				t.Fatal("it counts as success")
			}
			text := objectstore.Explain(err)
			reason := objectstore.CauseOf(err).Reason
			class := resilience.Classify(err)
			if class != tc.class || reason != tc.reason || !strings.Contains(text, tc.text) {
				t.Errorf("class %v, reason %q: %s; want %v, %q, %q", class, reason, text, tc.class, tc.reason, tc.text)
			}
			if len(text) > 1200 || !utf8.ValidString(text) || strings.ContainsAny(text, "\n\t\u202e") {
				t.Errorf("the text of %d bytes is not clean: %.300q", len(text), text)
			}
		})
	}
}

func openOdd(t *testing.T, endpoint string, checksum ...objectstore.Checksum) *objectstore.Bucket {
	t.Helper()
	checksum = append(checksum, objectstore.ChecksumSHA256)
	transport := objectstore.NewTransport(loopback, 4)
	t.Cleanup(transport.CloseIdleConnections)
	transport.SetPatience(3*time.Second, time.Second)
	b, err := objectstore.New(objectstore.Config{
		Endpoint:        endpoint,
		Region:          "us-east-1",
		Bucket:          "bucket",
		AccessKeyID:     "k",
		SecretAccessKey: "s",
		Options:         objectstore.Options{Checksum: checksum[0]},
	}, transport)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPartWithoutETag sends parts to what answers 200 to everything, as a proxy or a portal does. A part that no store
// has acknowledged must not count as sent: the caller drops its data.
func TestPartWithoutETag(t *testing.T) {
	completed := make(chan struct{}, 10)
	part := func(r *http.Request) bool {
		if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") {
			completed <- struct{}{}
		}
		return r.Method == http.MethodPut && r.URL.Query().Has("partNumber")
	}
	for name, answer := range map[string]oddAnswer{
		"no ETag":       {status: http.StatusOK},
		"an empty ETag": {http.StatusOK, map[string]string{"ETag": `""`}, ""},
		"a page":        {http.StatusOK, map[string]string{"Content-Type": "text/html"}, page},
		"204":           {status: http.StatusNoContent},
	} {
		b := openOdd(t, oddStore(t, part, answer).URL)
		body := make([]byte, 2*objectstore.PartSize)
		_, whole := b.Put(t.Context(), objectstore.Object{
			Key:  "k",
			Body: bytes.NewReader(body),
			Size: int64(len(body)),
		})
		for call, err := range map[string]error{
			"Put": whole,
			"PutPart": b.PutPart(t.Context(), objectstore.NewPart{
				Key:      "k",
				UploadID: "u",
				Begun:    objectstore.ChecksumSHA256,
				Number:   1,
				Body:     bytes.NewReader(body[:10]),
				Size:     10,
			}),
		} {
			var silent *objectstore.NoAnswerError
			if !errors.As(err, &silent) || resilience.Classify(err) != resilience.Transient {
				t.Errorf("%s, %s: %v, want an error that no store answered", name, call, err)
			}
		}
	}
	if n := len(completed); n != 0 {
		t.Errorf("%d uploads without parts were completed", n)
	}
}

// TestStreamWithoutETag does so with a body that is sent as it is read.
func TestStreamWithoutETag(t *testing.T) {
	put := func(r *http.Request) bool { return r.Method == http.MethodPut }
	b := openOdd(t, oddStore(t, put, oddAnswer{status: http.StatusOK}).URL, objectstore.ChecksumNone)
	body := make([]byte, 2*objectstore.PartSize)
	_, err := b.Put(t.Context(), objectstore.Object{Key: "k", Body: bytes.NewReader(body), Size: int64(len(body))})
	var silent *objectstore.NoAnswerError
	if !errors.As(err, &silent) {
		t.Errorf("got %v, want an error that no store answered", err)
	}
}
