package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/caly-dev/caly/internal/bounded"
)

// Bounds of a collector's answer.
const (
	// maxAnswer bounds what is read of an answer, in bytes. A partial success needs less.
	maxAnswer = 64 << 10
	// maxMessage bounds what a log line has of a collector's words, in bytes.
	maxMessage = 200
	// maxRetryAfter bounds how long a collector may ask to wait.
	maxRetryAfter = 30 * time.Second
)

// tracesPath is where OTLP over HTTP has its traces, below the endpoint.
const tracesPath = "/v1/traces"

// protobufType is the media type of requests and answers.
const protobufType = "application/x-protobuf"

// client sends spans to a collector, as OTLP over HTTP. It implements otlptrace.Client.
type client struct {
	url  string
	http *http.Client
	// within bounds one request.
	within time.Duration
	// rejected is told of spans that a collector did not take of a request that it answered with success.
	rejected func(spans int64, message string)
}

// parseEndpoint returns the URL that traces are sent to.
func parseEndpoint(endpoint string) (string, error) {
	address, err := url.Parse(endpoint)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" {
		return "", errors.New("it is not a URL such as http://collector.observability.svc:4318")
	}
	if address.User != nil || address.RawQuery != "" || address.ForceQuery || address.Fragment != "" {
		return "", errors.New("it must have neither credentials nor a query: flags are public")
	}
	return strings.TrimSuffix(address.String(), "/") + tracesPath, nil
}

// newClient returns a client with one connection. It follows no redirect, uses no proxy of the environment and unpacks
// no compressed answer.
func newClient(target string, within time.Duration, rejected func(int64, string)) *client {
	return &client{
		url:      target,
		within:   within,
		rejected: rejected,
		http: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext:            (&net.Dialer{Timeout: within}).DialContext,
				TLSHandshakeTimeout:    within,
				MaxConnsPerHost:        1,
				MaxIdleConnsPerHost:    1,
				IdleConnTimeout:        90 * time.Second,
				MaxResponseHeaderBytes: 16 << 10,
				DisableCompression:     true,
			},
		},
	}
}

// Start has nothing to do: connections are made when spans are sent.
func (c *client) Start(context.Context) error { return nil }

// Stop closes the connection.
func (c *client) Stop(context.Context) error {
	c.http.CloseIdleConnections()
	return nil
}

// exportError is why a collector did not take spans.
type exportError struct {
	reason string
	// again is true if the same request may succeed later, and after is how long the collector asks to wait.
	again bool
	after time.Duration
}

// Error returns the reason.
func (e *exportError) Error() string { return e.reason }

// UploadTraces sends spans once.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// On the wire this is the collector's ExportTraceServiceRequest, whose package would link gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return &exportError{reason: "the spans could not be encoded"}
	}
	ctx, cancel := context.WithTimeout(ctx, c.within)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return &exportError{reason: "the endpoint cannot be used"}
	}
	request.Header.Set("Content-Type", protobufType)
	request.Header.Set("User-Agent", "caly")
	answer, err := c.http.Do(request)
	if err != nil {
		return &exportError{reason: bounded.Text(err.Error(), maxMessage), again: true}
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if answer.StatusCode/100 == 2 {
		c.partial(answer, text)
		return nil // whatever the rest of the answer is: it has the spans
	}
	if err != nil {
		text = nil
	}
	return refused(answer, text)
}

// refused returns the error for an answer that is not a success. The conditions are those of the OTLP specification.
func refused(answer *http.Response, text []byte) error {
	failed := &exportError{reason: fmt.Sprintf("the collector answered %d", answer.StatusCode)}
	if words := bounded.Text(strings.TrimSpace(string(text)), maxMessage); words != "" &&
		answer.Header.Get("Content-Type") != protobufType {
		failed.reason += ": " + words
	}
	switch answer.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		failed.again = true
		seconds, _ := strconv.ParseUint(answer.Header.Get("Retry-After"), 10, 16) // 0 for a date
		failed.after = min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	return failed
}

// partial reports the spans that the collector did not take.
func (c *client) partial(answer *http.Response, text []byte) {
	if answer.Header.Get("Content-Type") != protobufType {
		return
	}
	if spans, message := parsePartial(text); spans > 0 {
		c.rejected(spans, bounded.Text(message, maxMessage))
	}
}

// parsePartial reads ExportTraceServiceResponse: its field 1 has the number of rejected spans (1) and a message (2). An
// answer that cannot be read says nothing.
func parsePartial(answer []byte) (spans int64, message string) {
	fields(answer, func(number protowire.Number, kind protowire.Type, value []byte) {
		if number != 1 || kind != protowire.BytesType {
			return
		}
		inner, _ := protowire.ConsumeBytes(value)
		fields(inner, func(number protowire.Number, kind protowire.Type, value []byte) {
			switch {
			case number == 1 && kind == protowire.VarintType:
				n, _ := protowire.ConsumeVarint(value)
				spans = int64(n) //nolint:gosec // a negative number is not believed
			case number == 2 && kind == protowire.BytesType:
				text, _ := protowire.ConsumeBytes(value)
				message = string(text)
			}
		})
	})
	return spans, message
}

// fields calls visit with each field of a message, until one cannot be read.
func fields(message []byte, visit func(protowire.Number, protowire.Type, []byte)) {
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return
		}
		size := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if size < 0 {
			return
		}
		visit(number, kind, message[tag:tag+size])
		message = message[tag+size:]
	}
}
