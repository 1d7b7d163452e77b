package tenantconfig

import (
	"strings"
	"testing"
)

func goodAudio() *Audio {
	return &Audio{AgentURL: "wss://bot.acme.example/stream", Protocol: "twilio", MaxStreams: 1, Headers: map[string]Sensitive{"Authorization": "Bearer key", "X-A": "b"},
		Verifiers: &Webhooks{Token: &Token{Secrets: []Sensitive{"0123456789abcdef"}}}}
}

// TestAudioCheck : what a pod takes, and that no error quotes a secret.
func TestAudioCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Audio)
		want   string // empty: taken
	}{
		"good":             {func(*Audio) {}, ""},
		"no verifiers":     {func(a *Audio) { a.Verifiers = nil }, ""},
		"http":             {func(a *Audio) { a.AgentURL = "https://bot/?key=hush" }, "no ws or wss URL"},
		"no host":          {func(a *Audio) { a.AgentURL = "wss:///x" }, "no ws or wss URL"},
		"protocol":         {func(a *Audio) { a.Protocol = "sip" }, `"sip"`},
		"no streams":       {func(a *Audio) { a.MaxStreams = 0 }, "below 1"},
		"handshake header": {func(a *Audio) { a.Headers["Sec-WebSocket-Key"] = "hush" }, "belongs to the handshake"},
		"host":             {func(a *Audio) { a.Headers["host"] = "hush" }, "belongs to the handshake"},
		"header's name":    {func(a *Audio) { a.Headers["a b"] = "hush" }, "no header's name"},
		"line break":       {func(a *Audio) { a.Headers["X-A"] = "hush\n" }, "line break"},
		"injected":         {func(a *Audio) { a.Headers["X-A"] = "hush\r\nX-B: c" }, "control character"},
		"empty":            {func(a *Audio) { a.Headers["X-A"] = "" }, "empty"},
		"too long":         {func(a *Audio) { a.Headers["X-A"] = Sensitive(strings.Repeat("h", MaxHeaderLength+1)) }, "longer than"},
		"signature":        {func(a *Audio) { a.Verifiers.Standard = &StandardWebhooks{} }, "looks at a body"},
		"bad verifier":     {func(a *Audio) { a.Verifiers.Token.Secrets = []Sensitive{"hush"} }, "shorter"},
	} {
		t.Run(name, func(t *testing.T) {
			a := goodAudio()
			tc.change(a)
			err := a.check()
			if (err == nil) != (tc.want == "") || (err != nil && (!strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hush"))) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestAudioDigest : every change is another digest, and none tells a secret.
func TestAudioDigest(t *testing.T) {
	digest := func(change func(*Audio)) string {
		a := goodAudio()
		change(a)
		return Tenant{ID: "acme/support", Audio: a}.Digest()
	}
	seen := map[string]string{digest(func(*Audio) {}): "as it is"}
	for name, change := range map[string]func(*Audio){
		"header": func(a *Audio) { a.Headers["X-A"] = "c" },
		"swapped": func(a *Audio) {
			a.Headers["X-A"], a.Headers["Authorization"] = a.Headers["Authorization"], a.Headers["X-A"]
		},
		"verifier": func(a *Audio) { a.Verifiers.Token.Secrets[0] = "fedcba9876543210" },
		"one time": func(a *Audio) { a.OneTimeToken = true },
	} {
		d := digest(change)
		if other, known := seen[d]; known {
			t.Errorf("%s is the same as %s", name, other)
		}
		seen[d] = name
	}
	for _, v := range goodAudio().digested("acme/support").Headers {
		if strings.Contains(v.Reveal(), "key") {
			t.Error("the digest holds a header")
		}
	}
}
