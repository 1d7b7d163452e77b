package exotelsim

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // a scheme that tenants use
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Message is a webhook before it is proven.
type Message struct {
	Fields url.Values
	How    Spelling
	Body   []byte // as sent; none with Query
}

// payload is what most signatures are made over.
func (m Message) payload(r *http.Request) []byte {
	if r.Method == http.MethodGet {
		return []byte(r.URL.RawQuery)
	}
	return m.Body
}

// Proof puts what one verifier looks for on a request. What changes the URL must come before what signs it: Token first.
type Proof func(r *http.Request, m Message)

// Token puts a token in the query.
func Token(name, token string) Proof {
	return func(r *http.Request, _ Message) { addQuery(r, name, token) }
}

// Basic is HTTP Basic authentication.
func Basic(user, password string) Proof {
	return func(r *http.Request, _ Message) { r.SetBasicAuth(user, password) }
}

// StandardWebhooks signs as standardwebhooks.com says, with the key that stands in base64 after whsec_. The id is made
// from the event, since a retry has the id of the first attempt.
func StandardWebhooks(key string) Proof {
	return func(r *http.Request, m Message) {
		event := sha256.Sum256([]byte(r.URL.Path + "?" + m.Fields.Encode()))
		id := "msg_" + hex.EncodeToString(event[:16])
		stamp := now()
		sum := sign(sha256.New, key, []byte(id+"."+stamp+"."), m.payload(r))
		r.Header.Set("Webhook-Id", id)
		r.Header.Set("Webhook-Timestamp", stamp)
		r.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(sum))
	}
}

// Content is what a Signature is made over.
type Content string

// Contents.
const (
	Payload                 Content = "Body" // the body, or the query of a request without one
	contentURLAndParameters Content = "URLAndParameters"
	contentTimestampAndBody Content = "TimestampAndBody"
)

// Signature is an HMAC in a header. Its zero value, with a secret, is what tenants have who say no more.
type Signature struct {
	Secret         string
	SHA256, Base64 bool
	Header, Prefix string // X-Exotel-Signature; none
	Content        Content
	// TimestampHeader is for TimestampAndBody.
	TimestampHeader string
}

// Proof signs.
func (s Signature) Proof() Proof {
	return func(r *http.Request, m Message) {
		newHash := sha1.New
		if s.SHA256 {
			newHash = sha256.New
		}
		sum := sign(newHash, s.Secret, s.signed(r, m)...)
		text := hex.EncodeToString(sum)
		if s.Base64 {
			text = base64.StdEncoding.EncodeToString(sum)
		}
		r.Header.Set(cmp.Or(s.Header, "X-Exotel-Signature"), s.Prefix+text)
	}
}

func (s Signature) signed(r *http.Request, m Message) [][]byte {
	switch s.Content {
	case contentURLAndParameters:
		return [][]byte{urlAndParameters(r, m)}
	case contentTimestampAndBody:
		stamp := now()
		r.Header.Set(s.TimestampHeader, stamp)
		return [][]byte{[]byte(stamp + "."), m.payload(r)}
	}
	return [][]byte{m.payload(r)}
}

// urlAndParameters returns what Twilio signs. A body that is not a form is signed by its digest in the URL.
func urlAndParameters(r *http.Request, m Message) []byte {
	form := m.How == Form || m.How == Multipart
	if len(m.Body) > 0 && !form {
		sum := sha256.Sum256(m.Body)
		addQuery(r, "bodySHA256", hex.EncodeToString(sum[:]))
	}
	var b strings.Builder
	b.WriteString(r.URL.String())
	if form {
		for _, name := range slices.Sorted(maps.Keys(m.Fields)) {
			b.WriteString(name + m.Fields.Get(name))
		}
	}
	return []byte(b.String())
}

func addQuery(r *http.Request, name, value string) {
	if r.URL.RawQuery != "" {
		r.URL.RawQuery += "&"
	}
	r.URL.RawQuery += url.QueryEscape(name) + "=" + url.QueryEscape(value)
}

func now() string { return strconv.FormatInt(time.Now().Unix(), 10) }

func sign(newHash func() hash.Hash, key string, parts ...[]byte) []byte {
	mac := hmac.New(newHash, []byte(key))
	for _, p := range parts {
		_, _ = mac.Write(p) // never fails
	}
	return mac.Sum(nil)
}
