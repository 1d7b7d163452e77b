package stream

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/caly-dev/caly/dataplane/admission"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/verify"
)

// maxBody of a question for a URL.
const maxBody = 64 << 10

// sampleRate is the query parameter in which Exotel is told the rate.
const sampleRate = "sample-rate"

// answerURL tells Exotel where the stream of a call goes, with a token for that stream.
func (h *Handler) answerURL(w http.ResponseWriter, r *http.Request, to destination) error {
	body, err := h.body(w, r, to)
	if err != nil {
		return err
	}
	guest, err := h.verified(r, to, body)
	if err != nil {
		return err
	}
	callSID := callSIDOf(r, body)
	if callSID == "" || len(callSID) > maxCallSID {
		return refuse(reasonNoCall, problem.New(problem.Validation,
			"the request names no call; CallSid must be in the query or the form"))
	}
	key := h.o.Key()
	if len(key) == 0 {
		return refuse(reasonNoKey, problem.New(problem.Unavailable,
			"this pod has no keyring yet; retry later").WithRetryAfter(retryAfter))
	}
	address := h.base(
		guest.request.URL,
	).JoinPath(PathPrefix, to.tenantID, mint(key, to.tenantID, callSID, guest.request.Now))
	if rate := r.URL.Query().Get(sampleRate); rate != "" {
		address.RawQuery = url.Values{sampleRate: {rate}}.Encode()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]string{"url": address.String()}) // the peer may have gone
	h.m.urls.Inc()
	return nil
}

// base returns the URL of the data plane for streams, without a path of Caly's.
func (h *Handler) base(request *url.URL) *url.URL {
	from := &url.URL{Scheme: request.Scheme, Host: request.Host}
	if h.o.PublicURL != nil {
		from = h.o.PublicURL
	}
	scheme := "ws"
	if from.Scheme == "https" {
		scheme = "wss"
	}
	return &url.URL{Scheme: scheme, Host: from.Host, Path: from.Path}
}

// body reads the body of a question. It holds a place meanwhile: that of the tenant, where the verifiers accept the
// request without its body, or one of those for strangers. An unknown tenant, and one that will refuse the question,
// are answered after the body too, so that the order tells nobody which tenants exist.
func (h *Handler) body(w http.ResponseWriter, r *http.Request, to destination) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	request := verify.NewRequest(r, nil, to.token, h.o.TrustedProxies, h.o.now())
	holder := admission.Address(request.ClientIP)
	t, known := h.o.Tenants().Tenant(to.tenantID)
	if known && t.Audio != nil && verify.AcceptsHead(t.Audio.Verifiers, request) {
		holder = admission.Tenant(t.ID)
	}
	place, err := h.bodies.Enter(w, holder)
	if err != nil {
		return nil, busy(err)
	}
	defer place.Leave()
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.o.BodyWithin)) // a recorder has none
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &large):
		return nil, refuse(reasonBody, problem.New(problem.PayloadTooLarge, "the body is larger than 64 KiB"))
	case errors.Is(err, os.ErrDeadlineExceeded):
		late := problem.New(problem.Timeout, "the body did not arrive in time").WithStatus(http.StatusRequestTimeout)
		return nil, refuse(reasonBody, late)
	}
	return nil, refuse(reasonBody, problem.New(problem.Validation, "the request body was truncated"))
}

// callSIDOf finds the call in the query or the form, in whatever casing.
func callSIDOf(r *http.Request, body []byte) string {
	if sid := findCallSID(r.URL.Query()); sid != "" {
		return sid
	}
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media != "application/x-www-form-urlencoded" {
		return ""
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return ""
	}
	return findCallSID(form)
}

func findCallSID(values url.Values) string {
	if sid := values.Get("CallSid"); sid != "" {
		return sid
	}
	for name := range values {
		if strings.EqualFold(strings.ReplaceAll(name, "_", ""), "callsid") {
			return values.Get(name)
		}
	}
	return ""
}
