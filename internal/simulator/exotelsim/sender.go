package exotelsim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Spelling of a webhook.
type Spelling string

// Spellings.
const (
	Multipart Spelling = "multipart"
	Form      Spelling = "form"
	JSON      Spelling = "json"
	Query     Spelling = "query" // GET
	// LegJSON is the nested JSON of leg events. Their sender waits for a second.
	LegJSON Spelling = "leg"
)

// Spellings are all of a StatusCallback's.
var Spellings = []Spelling{Multipart, Form, JSON, Query}

// Sender sends webhooks as Exotel does: at most three times in all, with a wait in between.
type Sender struct {
	// Secret of the signature that is sent where Proofs names nothing else.
	Secret string
	// Proofs that each webhook carries.
	Proofs []Proof
	// Wait before the second attempt; the third comes after three times that. Exotel's own are 5 and 15 minutes.
	Wait time.Duration
	HTTP *http.Client
}

// Send delivers one event. It returns the last status and the number of attempts; an error if no attempt was answered 2xx.
func (s Sender) Send(
	ctx context.Context,
	to string,
	fields url.Values,
	how Spelling,
) (status, attempts int, err error) {
	wait := s.Wait
	for attempts = 1; ; attempts++ {
		status, err = s.once(ctx, to, fields, how)
		if err == nil && status/100 == 2 {
			return status, attempts, nil
		}
		if attempts == 3 || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait *= 3
	}
	if err == nil {
		err = fmt.Errorf("the webhook was answered %d", status)
	}
	return status, attempts, err
}

func (s Sender) once(ctx context.Context, to string, fields url.Values, how Spelling) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience(how))
	defer cancel()
	req, err := s.request(ctx, to, fields, how)
	if err != nil {
		return 0, err
	}
	client := s.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err // without the URL, which may carry a token
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, nil
}

func patience(how Spelling) time.Duration {
	if how == LegJSON {
		return time.Second
	}
	return 15 * time.Second
}

func (s Sender) request(ctx context.Context, to string, fields url.Values, how Spelling) (*http.Request, error) {
	req, message, err := spell(ctx, to, fields, how)
	if err != nil {
		return nil, err
	}
	proofs := s.Proofs
	if proofs == nil {
		proofs = []Proof{Signature{Secret: s.Secret}.Proof()}
	}
	for _, prove := range proofs {
		prove(req, message)
	}
	return req, nil
}

func spell(ctx context.Context, to string, fields url.Values, how Spelling) (*http.Request, Message, error) {
	message := Message{Fields: fields, How: how}
	if how == Query {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
		if err != nil {
			return nil, message, err
		}
		if req.URL.RawQuery != "" {
			req.URL.RawQuery += "&"
		}
		req.URL.RawQuery += fields.Encode()
		return req, message, nil
	}
	var contentType string
	var err error
	if message.Body, contentType, err = Encode(fields, how); err != nil {
		return nil, message, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(message.Body))
	if err != nil {
		return nil, message, err
	}
	req.Header.Set("Content-Type", contentType)
	if how == LegJSON {
		req.Header.Set("X-Exotel-Event-Sid", fields.Get("event_sid"))
	}
	return req, message, nil
}

// Encode spells fields as a body.
func Encode(fields url.Values, how Spelling) (body []byte, contentType string, err error) {
	switch how {
	case Multipart:
		var b bytes.Buffer
		writer := multipart.NewWriter(&b)
		for _, k := range slices.Sorted(maps.Keys(fields)) { // a retry repeats what was sent
			if err := writer.WriteField(k, fields.Get(k)); err != nil {
				return nil, "", err
			}
		}
		err = writer.Close()
		return b.Bytes(), writer.FormDataContentType(), err
	case JSON:
		flat := map[string]string{}
		for k := range fields {
			flat[k] = fields.Get(k)
		}
		body, err = json.Marshal(flat)
		return body, "application/json", err
	case LegJSON:
		body, err = json.Marshal(nested(fields))
		return body, "application/json", err
	case Form:
		return []byte(fields.Encode()), "application/x-www-form-urlencoded", nil
	}
	return nil, "", fmt.Errorf("%q is not a spelling of a body: use multipart, form or json", how)
}

// nested spells data[leg_sid] as a field of an object named data, which is as deep as leg events go.
func nested(fields url.Values) map[string]any {
	top := map[string]any{}
	for k := range fields {
		outer, inner, found := strings.Cut(strings.TrimSuffix(k, "]"), "[")
		if !found {
			top[k] = fields.Get(k)
			continue
		}
		object, _ := top[outer].(map[string]string)
		if object == nil {
			object = map[string]string{}
			top[outer] = object
		}
		object[inner] = fields.Get(k)
	}
	return top
}
