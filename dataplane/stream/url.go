package stream

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/caly-dev/caly/dataplane/problem"
)

// maxBody of a question for a URL.
const maxBody = 64 << 10

// sampleRate is the query parameter in which Exotel is told the rate.
const sampleRate = "sample-rate"

// answerURL tells Exotel where the stream of a call goes, with a token for that stream.
func (h *Handler) answerURL(w http.ResponseWriter, r *http.Request, to destination) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return refuse(reasonBody, problem.New(problem.PayloadTooLarge, "the question has more than 64 KiB"))
		}
		return refuse(reasonBody, problem.New(problem.Validation, "the question did not arrive whole"))
	}
	g, err := h.verified(r, to, body)
	if err != nil {
		return err
	}
	callSID := callSIDOf(r, body)
	if callSID == "" || len(callSID) > maxCallSID {
		return refuse(reasonNoCall, problem.New(problem.Validation, "the question names no call: CallSid belongs in the query or the form"))
	}
	key := h.o.Key()
	if len(key) == 0 {
		return refuse(reasonNoKey, problem.New(problem.Unavailable, "this pod has no keyring yet; try again").WithRetryAfter(retryAfter))
	}
	u := *g.request.URL
	u.Scheme = map[bool]string{true: "wss", false: "ws"}[u.Scheme == "https"]
	u.Path, u.RawPath, u.Fragment = PathPrefix+to.tenantID+"/"+mint(key, to.tenantID, callSID, g.request.Now), "", ""
	u.RawQuery = ""
	if rate := r.URL.Query().Get(sampleRate); rate != "" {
		u.RawQuery = url.Values{sampleRate: {rate}}.Encode()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]string{"url": u.String()}) // the peer may have gone
	h.m.urls.Inc()
	return nil
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
