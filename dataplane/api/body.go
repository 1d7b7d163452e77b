package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/caly-dev/caly/dataplane/problem"
)

// maxDepth of a body's lists and objects in each other.
const maxDepth = 16

// maxTokens of a body: its names, its values and the brackets around them. A value takes much more memory than its
// text.
const maxTokens = 2048

// readBody reads a body whole and holds it to what JSON strictly is, before huma holds it to the operation's schema.
func (a *API) readBody(v *visit) *problem.Problem {
	if !v.takesBody || v.r.ContentLength == 0 {
		return nil
	}
	if p := mediaType(v.r.Header); p != nil {
		return p
	}
	body, err := v.slurp(a.o.BodyTimeout)
	if err != nil {
		return explainBody(err, v.op.MaxBody)
	}
	v.r.Header.Set("Content-Type", "application/json") // huma knows it in no other spelling
	v.r.Body = io.NopCloser(bytes.NewReader(body))
	v.r.ContentLength = int64(len(body))
	return checkJSON(body)
}

// slurp reads the body in bounded time.
func (v *visit) slurp(timeout time.Duration) ([]byte, error) {
	v.facts.place.Receiving()
	defer v.facts.place.Received()
	_ = http.NewResponseController(v.w).SetReadDeadline(time.Now().Add(timeout)) // a recorder has none
	return io.ReadAll(http.MaxBytesReader(v.w, v.r.Body, v.op.MaxBody))
}

func mediaType(h http.Header) *problem.Problem {
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset := params["charset"]
	delete(params, "charset")
	encoding := h.Get("Content-Encoding")
	if err == nil && kind == "application/json" && len(params) == 0 &&
		(charset == "" || strings.EqualFold(charset, "utf-8")) &&
		(encoding == "" || strings.EqualFold(encoding, "identity")) {
		return nil
	}
	return problem.New(
		problem.UnsupportedMediaType, "send JSON in UTF-8, uncompressed, with Content-Type: application/json",
	)
}

func explainBody(err error, limit int64) *problem.Problem {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return problem.New(problem.PayloadTooLarge, fmt.Sprintf("the body may have %d bytes at most", limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem.New(problem.Timeout, "the body did not arrive in time").WithStatus(http.StatusRequestTimeout)
	}
	return problem.New(problem.Validation, "the request body was truncated")
}

// checkJSON refuses what decoders disagree about: duplicate names, invalid UTF-8, data after the end, and great depth.
func checkJSON(body []byte) *problem.Problem {
	decoder := jsontext.NewDecoder(bytes.NewReader(body))
	for tokens := 0; ; tokens++ {
		if tokens == maxTokens {
			return badBody("", fmt.Sprintf("it has more than %d names, values and brackets", maxTokens))
		}
		if _, err := decoder.ReadToken(); err != nil {
			return notJSON(err)
		}
		switch depth := decoder.StackDepth(); {
		case depth > maxDepth:
			return badBody(
				printable(string(decoder.StackPointer()), maxDevice), fmt.Sprintf("nested deeper than %d", maxDepth),
			)
		case depth > 0:
			continue
		}
		if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
			return badBody(
				"", fmt.Sprintf("there is more after the end of the JSON, before byte %d", decoder.InputOffset()),
			)
		}
		return nil
	}
}

// notJSON says where and why, in words of our own: a decoder's error may quote the body.
func notJSON(err error) *problem.Problem {
	var at *jsontext.SyntacticError
	if !errors.As(err, &at) || errors.Is(err, io.ErrUnexpectedEOF) {
		return badBody("", "it ends before the JSON does")
	}
	message := fmt.Sprintf("not JSON, at byte %d", at.ByteOffset)
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		message = "given twice"
	case strings.Contains(at.Err.Error(), "UTF-8"):
		message = fmt.Sprintf("not UTF-8, at byte %d", at.ByteOffset)
	}
	return badBody(printable(string(at.JSONPointer), maxDevice), message)
}

func badBody(path, message string) *problem.Problem {
	return problem.New(problem.Validation, "the body is not valid").WithField(path, message)
}

// marshal writes lists and objects that are nil as empty ones; omitempty is that of encoding/json, which people know.
func marshal(w io.Writer, v any) error {
	return json.MarshalWrite(
		w, v, jsonv1.OmitEmptyWithLegacySemantics(true), jsontext.AllowInvalidUTF8(true), json.Deterministic(true),
	)
}

// unmarshal reads what checkJSON let through. Its errors quote nothing.
func unmarshal(data []byte, v any) error {
	err := json.Unmarshal(data, v, json.RejectUnknownMembers(true))
	var at *json.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, json.ErrUnknownName):
		return errors.New("it has an unknown member")
	case errors.As(err, &at):
		return fmt.Errorf("what is at %q does not fit", printable(string(at.JSONPointer), maxDevice))
	}
	return errors.New("not JSON")
}
