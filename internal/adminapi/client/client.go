// Package client calls the admin API of the operator from a workstation.
//
// The API listens on the loopback addresses of the operator's pods. A connection to it is a stream of a port-forward:
// the API server checks with its own TLS certificate and with RBAC (pods/portforward), and no local port is opened. In
// this tunnel the client speaks TLS with the operator and sends the credentials of the kubeconfig: a client certificate
// in the handshake, whose key stays here, or a token, also that of an exec plugin.
//
// The operator's certificate is not verified. It is self-signed, made at the start of each pod, and the API server has no
// authority that would sign it. The other end is known by the tunnel instead: the API server, whose certificate is
// verified, connects the stream to the named pod, and the kubelet to a port of the pod's own loopback address. Only a
// container of that pod can answer there. The client therefore looks for pods in one namespace alone, the operator's.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/bounded"
)

// maxAnswer bounds an answer: a page of MaxPage items, or an event with its request.
const maxAnswer = 16 << 20

// Dialer opens connections to the admin API. Pods is the one of a workstation; tests dial directly.
type Dialer interface {
	DialContext(ctx context.Context) (net.Conn, error)
}

// DialFunc is a function that is a Dialer.
type DialFunc func(ctx context.Context) (net.Conn, error)

// DialContext calls the function.
func (f DialFunc) DialContext(ctx context.Context) (net.Conn, error) { return f(ctx) }

// Client calls the admin API with the credentials of one kubeconfig context.
type Client struct {
	http *http.Client
}

// New returns a client with the credentials, the impersonation and the timeout of a config.
func New(config *rest.Config, dialer Dialer) (*Client, error) {
	if config.Username != "" || config.Password != "" {
		return nil, errors.New("the kubeconfig has a user name and a password, which the operator cannot verify; " +
			"use a token or a client certificate")
	}
	// From the config as it is: an exec plugin may ask for the address of the API server.
	base, err := config.TransportConfig()
	if err != nil {
		return nil, fmt.Errorf("read the credentials of the kubeconfig: %w", err)
	}
	base.TLS.Insecure = true // see the package comment
	base.TLS.CAData = nil
	base.TLS.CAFile = ""
	base.TLS.ReloadCAFiles = false
	base.TLS.ServerName = ""
	base.TLS.NextProtos = []string{"http/1.1"}
	base.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil } // the proxy is that of the API server
	base.DialHolder = &transport.DialHolder{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx)
	}}
	roundTripper, err := transport.New(base)
	if err != nil {
		return nil, fmt.Errorf("use the credentials of the kubeconfig: %w", err)
	}
	return &Client{http: &http.Client{
		Transport:     roundTripper,
		Timeout:       config.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get reads a path of package adminapi into a value. Errors of the API are those of package apierrors.
func (c *Client) Get(ctx context.Context, path string, query url.Values, into any) error {
	return c.do(ctx, call{method: http.MethodGet, path: path, query: query}, into)
}

// Post sends a body, and reads the answer into a value.
func (c *Client) Post(ctx context.Context, path string, body, into any) error {
	return c.do(ctx, call{method: http.MethodPost, path: path, body: body}, into)
}

// UnreachableError means that no answer of the operator came.
type UnreachableError struct{ Err error }

// Error says why.
func (e *UnreachableError) Error() string { return "call the operator: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// call is a call of the admin API.
type call struct {
	method, path string
	query        url.Values
	// body is sent as JSON; nil: no body.
	body any
}

// request returns the HTTP request of the call.
func (c call) request(ctx context.Context) (*http.Request, error) {
	target := url.URL{Scheme: "https", Host: "caly-operator", Path: c.path, RawQuery: c.query.Encode()}
	var reader io.Reader
	if c.body != nil {
		data, err := json.Marshal(c.body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, c.method, target.String(), reader)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if c.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, nil
}

// do makes a call, and reads the answer into a value.
func (c *Client) do(ctx context.Context, what call, into any) error {
	request, err := what.request(ctx)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the URL, whose host does not exist
		}
		return &UnreachableError{err}
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the operator's answer: %w", err)
	case len(data) > maxAnswer:
		return fmt.Errorf("the operator's answer has more than %d bytes", maxAnswer)
	case response.StatusCode != http.StatusOK:
		return statusError(response.StatusCode, data)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("the operator's answer cannot be read; compare the versions with \"version\": %w", err)
	}
	return nil
}

// statusError returns the error that the operator answered.
func statusError(code int, data []byte) error {
	var status metav1.Status
	if json.Unmarshal(data, &status) == nil && status.Kind == "Status" && status.Status == metav1.StatusFailure {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return fmt.Errorf("the operator answered %d: %s", code, bounded.Text(string(data), 200))
}

// All reads every page of a list, up to a number of items. more reports whether there are others.
func All[T any](
	ctx context.Context, c *Client, path string, query url.Values, most int,
) (items []T, more bool, err error) {
	query = cloned(query)
	for {
		query.Set("limit", fmt.Sprint(min(most-len(items), adminapi.MaxPage)))
		var page adminapi.List[T]
		if err := c.Get(ctx, path, query, &page); err != nil {
			return items, false, err
		}
		items = append(items, page.Items...)
		if page.Next == "" || len(items) >= most {
			return items, page.Next != "", nil
		}
		query.Set("cursor", page.Next)
	}
}

func cloned(query url.Values) url.Values {
	clone := url.Values{}
	for name, values := range query {
		clone[name] = values
	}
	return clone
}
