package main

import (
	"strings"
	"testing"

	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestSimulateStreamToTenant calls a data plane with nothing but its address, the Tenant's name and its token.
func TestSimulateStreamToTenant(t *testing.T) {
	server := newAgent(t, agentsim.Options{})
	dataPlane := calytest.NewDataPlane(t, pgtest.New(t))
	dataPlane.WithAudio(
		server.URL(), 4,
	) // the row of a call ends a moment after the call, so the next case may find it still live
	dataPlane.Args = append(dataPlane.Args, "--allowed-agent-cidrs=127.0.0.0/8")
	calytest.WriteKeyring(t, dataPlane.Namespace) // one-time tokens need it
	dataPlane.Run()
	good := "--secret-file=" + write(t, calytest.AudioToken+"\n")
	wrong := "--secret-file=" + write(t, "another-token-topsecret")
	common := []string{"simulate", "stream", "--tenant=acme/support", "--duration=200ms", "--ramp=0", "--expect-echo"}
	for name, tc := range map[string]struct {
		args []string
		says string // an error; none without
	}{
		"by its token": {[]string{"--server=ws://" + dataPlane.Public, good}, ""},
		"numbers in strings": {
			[]string{"--server=ws://" + dataPlane.Public + "/", good, "--quoting=strings", "--pace=100ms"},
			"",
		},
		"by a token for each call": {
			[]string{"--server=http://" + dataPlane.Public, good, "--one-time", "--calls=2"},
			"",
		},
		"a wrong token": {
			[]string{"--server=ws://" + dataPlane.Public, wrong},
			"1 calls could not be opened",
		},
		"a wrong token, one-time": {
			[]string{"--server=ws://" + dataPlane.Public, wrong, "--one-time"},
			"1 calls could not be opened",
		},
		"no token": {[]string{"--server=ws://" + dataPlane.Public}, "1 calls could not be opened"},
	} {
		t.Run(name, func(t *testing.T) {
			result := execute(t, append(common, tc.args...)...)
			switch {
			case tc.says != "":
				checkFailure(t, result, tc.says)
				if !strings.Contains(result.out, "was answered 401") {
					t.Errorf("it prints %q", result.out)
				}
			case result.err != nil || !strings.Contains(result.out, "0 failed, 0 ended early, 0 incomplete"):
				t.Errorf("%v, it prints %q", result.err, result.out)
			}
			if said := result.out + result.errs; strings.Contains(said, calytest.AudioToken) ||
				strings.Contains(said, "topsecret") {
				t.Errorf("a secret is told: %s", said)
			}
		})
	}
}

// TestSimulateStreamToTenantFails verifies that wrong usage and unreachable servers fail with a message that does not
// hold a secret.
func TestSimulateStreamToTenantFails(t *testing.T) {
	server := "--server=wss://caly.example.com"
	secret := "--secret-file=" + write(t, "topsecret")
	for name, tc := range map[string]struct {
		args []string
		says string
	}{
		"no namespace": {[]string{"--tenant=support", server}, `--tenant "support" is not namespace/name`},
		"an address too": {
			[]string{"--tenant=acme/support", server, "--url=ws://example.com"},
			"--url, --url-file or --tenant, one of them",
		},
		"a server alone":      {[]string{server}, "are for --tenant"},
		"a secret alone":      {[]string{secret, "--url=ws://example.com"}, "are for --tenant"},
		"one-time alone":      {[]string{"--one-time", "--url=http://example.com"}, "are for --tenant"},
		"a secret, no server": {[]string{"--tenant=acme/support", secret}, "--secret-file is for --server"},
		"no such secret": {
			[]string{"--tenant=acme/support", server, "--secret-file=/nowhere/token"},
			"/nowhere/token",
		},
		"no server's address": {
			[]string{"--tenant=acme/support", "--server=caly.example.com"},
			"--server must be an address such as",
		},
		"a server over ftp": {[]string{"--tenant=acme/support", "--server=ftp://caly.example.com"}, "not ftp://"},
		"credentials in argv": {
			[]string{"--tenant=acme/support", "--server=wss://key:topsecret@caly.example.com"},
			"--server must carry no credentials",
		},
		"nobody at the server": {
			[]string{"--tenant=acme/support", "--server=ws://" + calytest.FreeAddress(t), secret},
			"1 calls could not be opened",
		},
		"nobody to ask there": {
			[]string{"--tenant=acme/support", "--server=ws://" + calytest.FreeAddress(t), secret, "--one-time"},
			"1 calls could not be opened",
		},
		"no cluster to look into": {[]string{"--tenant=acme/support"}, "configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", "/nowhere/kubeconfig")
			result := execute(t, append([]string{"simulate", "stream"}, tc.args...)...)
			checkFailure(t, result, tc.says)
			if said := result.out + result.errs + result.err.Error(); strings.Contains(said, "topsecret") {
				t.Errorf("a secret is told: %s", said)
			}
		})
	}
}

// TestTenantAddress verifies that the command makes the address of Exotel's applet from the Tenant in the cluster.
func TestTenantAddress(t *testing.T) {
	env := kubetest.Get(t)
	t.Setenv("KUBECONFIG", calytest.Kubeconfig(t))
	ns := env.NewNamespace(t)
	slashed := keep(t, env.Client, ns, "slashed", map[string]string{"a": aToken, "b": forgotten})
	plain := keep(t, env.Client, ns, "plain", map[string]string{"a": "a token + more", "b": forgotten})
	users := keep(t, env.Client, ns, "users", map[string]string{"alice": aPassword, "bob": forgotten})
	empty := keep(t, env.Client, ns, "empty", nil)
	token := v1alpha1.WebhooksSpec{Token: &v1alpha1.TokenSpec{SecretRef: slashed, Query: "t"}}
	verified := func(v v1alpha1.AudioVerification) *v1alpha1.AudioSpec {
		return &v1alpha1.AudioSpec{AgentURL: "wss://bot.example", Verification: &v}
	}
	const prefix = "https://caly.example.com/base/webhooks/exotel/"
	for name, tc := range map[string]struct {
		webhooks v1alpha1.WebhooksSpec
		audio    *v1alpha1.AudioSpec
		prefix   string
		want     string // behind the namespace, of wss://caly.example.com/base/audio/exotel/
		wantErr  string
	}{
		"of-webhooks": {
			webhooks: token,
			audio:    &v1alpha1.AudioSpec{AgentURL: "wss://bot.example"},
			want:     "wss /of-webhooks?t=a%2Btoken%2Fof%3Dacme%2526%3D%3D",
		},
		"own-token": {
			webhooks: token,
			audio:    verified(v1alpha1.AudioVerification{TokenSecretRef: &plain}),
			want:     "wss /own-token/a%20token%20+%20more",
		},
		"own-users": {
			webhooks: token,
			audio:    verified(v1alpha1.AudioVerification{BasicAuthSecretRef: &users}),
			want:     "wss alice:pass%3Aword%20&%20more@/own-users",
		},
		"own-range": {
			webhooks: token,
			audio:    verified(v1alpha1.AudioVerification{AllowedCIDRs: []string{"203.0.113.0/24"}}),
			want:     "wss /own-range",
		},
		"one-time": {
			webhooks: token,
			audio:    verified(v1alpha1.AudioVerification{TokenSecretRef: &plain, OneTimeToken: ptr.To(true)}),
			want:     "https /one-time/url/a%20token%20+%20more",
		},
		"one-time-by-webhooks": {
			webhooks: token,
			audio:    verified(v1alpha1.AudioVerification{OneTimeToken: ptr.To(true)}),
			want:     "https /one-time-by-webhooks/url?t=a%2Btoken%2Fof%3Dacme%2526%3D%3D",
		},
		"no-audio": {webhooks: token, wantErr: "takes no audio streams: give it spec.audio"},
		"no-secret": {
			webhooks: token,
			audio:    verified(v1alpha1.AudioVerification{TokenSecretRef: &v1alpha1.SecretReference{Name: "nowhere"}}),
			wantErr:  `"nowhere" not found`,
		},
		"no-token": {
			webhooks: token,
			audio:    verified(v1alpha1.AudioVerification{TokenSecretRef: &empty}),
			wantErr:  "holds no token",
		},
		"no-users": {
			webhooks: token,
			audio:    verified(v1alpha1.AudioVerification{BasicAuthSecretRef: &empty}),
			wantErr:  "holds no password",
		},
		"no-address": {
			webhooks: token,
			audio:    verified(v1alpha1.AudioVerification{TokenSecretRef: &plain}),
			prefix:   "http://127.0.0.1:1/",
			wantErr:  "has no address yet",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := newTenant(ns, name, tc.webhooks)
			tenant.Spec.Audio = tc.audio
			at := prefix
			if tc.prefix != "" {
				at = tc.prefix
			}
			reachable(t, env.Client, tenant, at)
			got, err := streamOptions{tenant: tenant.ID()}.address(t.Context())
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("the error is %v, want %q", err, tc.wantErr)
				}
				return
			}
			scheme, rest, _ := strings.Cut(tc.want, " ")
			user, path, _ := strings.Cut(rest, "/")
			if want := scheme + "://" + user + "caly.example.com/base/audio/exotel/" + ns + "/" + path; err != nil ||
				got != want {
				t.Errorf("the address is %q, %v, want %q", got, err, want)
			}
		})
	}
}
