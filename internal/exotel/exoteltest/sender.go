package exoteltest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the scheme that tenants use
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
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
)

// Spellings are all of them.
var Spellings = []Spelling{Multipart, Form, JSON, Query}

// Call is one call as Exotel tells of it.
type Call struct {
	SID, From, To, RecordingURL string
	Started, Ended              time.Time
}

// ist is the zone in which Exotel writes its times.
var ist = time.FixedZone("IST", 5*3600+1800)

// Terminal is the fields of a call's terminal StatusCallback.
func (c Call) Terminal() url.Values {
	const layout = "2006-01-02 15:04:05"
	return url.Values{
		"CallSid": {c.SID}, "EventType": {"terminal"}, "Status": {"completed"}, "Direction": {"outbound-api"}, "From": {c.From}, "To": {c.To},
		"DateUpdated": {time.Now().In(ist).Format(layout)}, "StartTime": {c.Started.In(ist).Format(layout)},
		"EndTime": {c.Ended.In(ist).Format(layout)}, "ConversationDuration": {fmt.Sprint(int(c.Ended.Sub(c.Started).Seconds()))},
		"RecordingUrl": {c.RecordingURL}, "Legs[0][Status]": {"completed"}, "Legs[0][OnCallDuration]": {"41"},
	}
}

// Answered is the fields of its answered StatusCallback.
func (c Call) Answered() url.Values {
	return url.Values{"CallSid": {c.SID}, "EventType": {"answered"}, "Status": {"in-progress"}, "From": {c.From}, "To": {c.To}}
}

// Sender sends webhooks as Exotel does: at most three times in all, with a wait in between.
type Sender struct {
	Secret string
	// Wait before the second attempt; the third comes after three times that. Exotel's own are 5 and 15 minutes.
	Wait time.Duration
	HTTP *http.Client
}

// Send delivers one event. It returns the last status and the number of attempts; an error if no attempt was answered 2xx.
func (s Sender) Send(ctx context.Context, to string, fields url.Values, how Spelling) (status, attempts int, err error) {
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
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
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
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, nil
}

func (s Sender) request(ctx context.Context, to string, fields url.Values, how Spelling) (*http.Request, error) {
	if how == Query {
		raw := fields.Encode()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, to+"?"+raw, nil)
		if err == nil {
			req.Header.Set("X-Exotel-Signature", s.sign([]byte(raw)))
		}
		return req, err
	}
	body, contentType, err := Encode(fields, how)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err == nil {
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("X-Exotel-Signature", s.sign(body))
	}
	return req, err
}

func (s Sender) sign(b []byte) string {
	mac := hmac.New(sha1.New, []byte(s.Secret))
	_, _ = mac.Write(b) // never fails
	return hex.EncodeToString(mac.Sum(nil))
}

// Encode spells fields as a body.
func Encode(fields url.Values, how Spelling) (body []byte, contentType string, err error) {
	switch how {
	case Multipart:
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for k := range fields {
			if err := w.WriteField(k, fields.Get(k)); err != nil {
				return nil, "", err
			}
		}
		err = w.Close()
		return b.Bytes(), w.FormDataContentType(), err
	case JSON:
		flat := map[string]string{}
		for k := range fields {
			flat[k] = fields.Get(k)
		}
		body, err = json.Marshal(flat)
		return body, "application/json", err
	case Form:
		return []byte(fields.Encode()), "application/x-www-form-urlencoded", nil
	}
	return nil, "", fmt.Errorf("%q is no spelling of a body: use multipart, form or json", how)
}
