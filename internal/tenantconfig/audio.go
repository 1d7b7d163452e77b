package tenantconfig

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/secret"
)

// Bounds of the headers that an agent is sent.
const (
	// MaxHeaders of them.
	MaxHeaders = 16
	// maxHeaderLength of a value, in bytes.
	maxHeaderLength = 4096
)

// Audio is where a tenant's audio streams go, and who may open one.
type Audio struct {
	// AgentURL is a ws or wss URL.
	AgentURL string `json:"agentURL"`
	// Protocol that the agent speaks: exotel, twilio or pcm.
	Protocol string `json:"protocol"`
	// Headers of the handshake with the agent.
	Headers map[string]secret.Sensitive `json:"headers,omitempty"`
	// CABundle has the PEM certificates of the CAs that may have signed the agent's. Empty means the system's CAs.
	CABundle string `json:"caBundle,omitempty"`
	// Reconnect once to an agent whose connection broke.
	Reconnect bool `json:"reconnect,omitempty"`
	// MaxStreams at once, over all pods.
	MaxStreams int `json:"maxStreams"`
	// Verifiers of streams, and of questions for a stream's URL; nil refuses all. None of them looks at a body.
	Verifiers *Webhooks `json:"verifiers,omitempty"`
	// OneTimeToken refuses streams without one: the verifiers then open nothing but the question for the URL.
	OneTimeToken bool `json:"oneTimeToken,omitempty"`
	// Capture streams, both directions, into the tenant's bucket; nil: it does not want that.
	Capture *Capture `json:"capture,omitempty"`
}

// Capture is how a tenant's streams are captured. Storage is where to.
type Capture struct {
	// KeyTemplate makes the object's key.
	KeyTemplate string `json:"keyTemplate"`
}

// Protocols of agents.
var audioProtocols = []string{"exotel", "twilio", "pcm"}

// check has errors that quote no URL, since its query may hold a key.
func (a *Audio) check() error {
	if a == nil {
		return nil
	}
	address, err := url.Parse(a.AgentURL)
	if err != nil || (address.Scheme != "ws" && address.Scheme != "wss") || address.Hostname() == "" {
		return errors.New("the config's agentURL is not a ws or wss URL")
	}
	if !slices.Contains(audioProtocols, a.Protocol) {
		return fmt.Errorf("the agent's protocol %q is not one that this caly speaks", a.Protocol)
	}
	if a.MaxStreams < 1 {
		return errors.New("the config's maxStreams is below 1")
	}
	if len(a.Headers) > MaxHeaders {
		return fmt.Errorf("there are %d headers for the agent, and may be %d", len(a.Headers), MaxHeaders)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		if fault := HeaderFault(name, a.Headers[name].Reveal()); fault != "" {
			return fmt.Errorf("the agent's header %q %s", name, fault)
		}
	}
	if fault := CAFault(a.CABundle); a.CABundle != "" && fault != "" {
		return errors.New("the config's caBundle " + fault)
	}
	if a.Verifiers != nil && (a.Verifiers.Signature != nil || a.Verifiers.Standard != nil) {
		return errors.New("a verifier of audio looks at a body, and streams have none")
	}
	if a.Capture != nil {
		if err := recording.ParseKeyTemplate(a.Capture.KeyTemplate); err != nil {
			return err
		}
	}
	return a.Verifiers.check()
}

// handshakeHeaders are the handshake's own.
var handshakeHeaders = []string{"host", "connection", "upgrade", "content-length", "transfer-encoding", "te", "trailer"}

// HeaderFault is why an agent cannot be sent a header; empty: it can. It quotes nothing.
func HeaderFault(name, value string) string {
	lower := strings.ToLower(name)
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return "is not a header name"
	case slices.Contains(handshakeHeaders, lower) || strings.HasPrefix(lower, "sec-websocket-"):
		return "belongs to the handshake itself: choose another"
	case value == "" || len(value) > maxHeaderLength:
		return fmt.Sprintf("is empty or longer than %d bytes", maxHeaderLength)
	case strings.HasSuffix(value, "\n"):
		return "ends in a line break: make the Secret with --from-literal, or from a file without one"
	case !httpguts.ValidHeaderFieldValue(value):
		return "has a control character in it, which no header carries"
	}
	return ""
}

// digested is a copy whose secrets are replaced by their digests.
func (a *Audio) digested(id string) *Audio {
	if a == nil {
		return nil
	}
	clone := *a
	clone.Verifiers = a.Verifiers.digested(id)
	if len(a.Headers) == 0 {
		return &clone
	}
	// A header may be a password: all values in one slow digest, with the first name.
	names := slices.Sorted(maps.Keys(a.Headers))
	values := make([]secret.Sensitive, len(names))
	clone.Headers = make(map[string]secret.Sensitive, len(names))
	for i, name := range names {
		values[i], clone.Headers[name] = a.Headers[name], ""
	}
	clone.Headers[names[0]] = slowDigest("caly digest of audio\x00"+id, values...)
	return &clone
}
