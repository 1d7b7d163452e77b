package objectstore

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/caly-dev/caly/internal/resilience"
)

// IdentityError says why there are no temporary credentials and what to do. Its text holds no part of the token.
type IdentityError struct {
	Reason Reason
	// Stop reports that no retry helps until a person changes something.
	Stop    bool
	Message string
	err     error
}

// Error returns the message.
func (e *IdentityError) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *IdentityError) Unwrap() error { return e.err }

// identityRule maps answers of an STS to what to do. The first one that fits counts.
type identityRule struct {
	rule
	// retry reports that time may help.
	retry  bool
	advice string
	// token reports that the STS refused the token itself.
	token bool
}

const (
	adviceTrust = "allow sts:AssumeRoleWithWebIdentity in the trust policy of {role} for the subject {subject} and " +
		"the audience {audience}, or correct spec.recordings.webIdentity.roleARN"
	adviceProvider = "register the cluster's issuer of ServiceAccount tokens as an OpenID Connect provider of the " +
		"account, with the audience {audience}; the issuer's keys must be readable from outside of the cluster"
	adviceDuration = "set spec.recordings.webIdentity.sessionDuration to at most the role's maximum session duration"
	adviceClock    = "have the platform correct the time of its nodes"
	adviceOther    = "correct spec.recordings.webIdentity"
)

// identityRules are what STSs answer. The codes without a source are Amazon's:
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html and
// https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
// ExpiredToken, InvalidParameterValue and STSNotInitialized are MinIO's (minio/minio, cmd/sts-errors.go).
var identityRules = []identityRule{
	{
		rule: rule{
			codes: "IDPCommunicationError Throttling ThrottlingException RequestLimitExceeded STSNotInitialized",
		},
		retry:  true,
		advice: "wait: it is tried again",
	},
	{rule: rule{codes: "ExpiredTokenException ExpiredToken RequestExpired"}, retry: true, advice: adviceClock},
	{rule: rule{codes: "AccessDenied"}, advice: adviceTrust, token: true},
	{rule: rule{codes: "InvalidIdentityToken IDPRejectedClaim"}, advice: adviceProvider, token: true},
	{
		rule:   rule{codes: "RegionDisabledException"},
		advice: "activate STS in the region for the account, or set spec.recordings.webIdentity.endpoint",
	},
	{rule: rule{codes: "ValidationError InvalidParameterValue", text: "durationseconds"}, advice: adviceDuration},
	{
		rule:   rule{codes: "ValidationError InvalidParameterValue MissingParameter NoSuchEntity NoSuchRole"},
		advice: "correct spec.recordings.webIdentity.roleARN",
	},
	{rule: rule{status: 404}, advice: "correct spec.recordings.webIdentity.endpoint"},
	{rule: rule{status: 405}, advice: "correct spec.recordings.webIdentity.endpoint: what answers is not an STS"},
}

// failed returns what an error means.
func (w *WebIdentity) failed(err error) *IdentityError {
	var (
		refused *PolicyError
		answer  *AnswerError
		lie     *lieError
	)
	switch {
	case errors.As(err, &refused):
		return &IdentityError{
			Reason:  EndpointNotAllowed,
			Stop:    true,
			err:     err,
			Message: "the endpoint of spec.recordings.webIdentity is not allowed: " + refused.reason,
		}
	case errors.Is(err, errEndpoint):
		return &IdentityError{
			Reason:  IdentityRefused,
			Stop:    true,
			err:     err,
			Message: "spec.recordings.webIdentity.endpoint: " + errEndpoint.Error(),
		}
	case CertificateFault(err) != "":
		return &IdentityError{
			Reason: CertificateNotTrusted,
			Stop:   true,
			err:    err,
			Message: fmt.Sprintf(
				"the certificate of the STS %s %s: name the authority that signed it in spec.recordings.caSecretRef, or "+
					"correct spec.recordings.webIdentity.endpoint",
				w.host(),
				CertificateFault(err),
			),
		}
	case errors.As(err, &lie):
		return &IdentityError{
			Reason:  IdentityRefused,
			err:     err,
			Message: fmt.Sprintf("%s: %v; use an STS that issues what Amazon documents", w.host(), lie),
		}
	case errors.As(err, &answer):
		return w.refused(answer)
	}
	return w.silent(err)
}

// silent is for an STS that did not answer, or something else that did. The text is the same whatever happened, as that
// of NoAnswerError is.
func (w *WebIdentity) silent(err error) *IdentityError {
	cause := &redactedError{w.withoutToken(err.Error()), err}
	none := &NoAnswerError{Host: w.host(), cause: resilience.Retryable(cause)}
	return &IdentityError{
		Reason: IdentityUnavailable,
		err:    none,
		Message: fmt.Sprintf("no STS answer from %s; correct spec.recordings.webIdentity.endpoint, or wait for the "+
			"service. An STS with a private address must be in the platform's storage.allowedCIDRs; the operator's "+
			"log has the cause", none.Host),
	}
}

// refused is for an error answer of an STS.
func (w *WebIdentity) refused(answer *AnswerError) *IdentityError {
	identityError := &IdentityError{Reason: IdentityRefused, Stop: true, err: answer}
	advice := adviceOther
	said := "the STS answered"
	if resilience.Classify(answer) == resilience.Transient {
		identityError.Reason = IdentityUnavailable
		identityError.Stop = false
		advice = "wait: it is tried again"
	}
	for i := range identityRules {
		if identityRule := &identityRules[i]; identityError.Stop && identityRule.fits(answer) {
			advice = identityRule.advice
			if identityRule.token {
				said = "the STS refused the token of the ServiceAccount"
			}
			if identityRule.retry {
				identityError.Reason = IdentityUnavailable
				identityError.Stop = false
			}
			break
		}
	}
	role := "the role"
	if w.RoleARN != "" {
		role = w.RoleARN
	}
	advice = strings.NewReplacer("{subject}", w.Subject, "{audience}", w.Audience, "{role}", role).Replace(advice)
	text := answer.Error()
	if answer.RequestID != "" {
		text += " (request " + answer.RequestID + ")"
	}
	identityError.Message = fmt.Sprintf("%s: %s; %s", said, w.withoutToken(text), advice)
	return identityError
}

// redactedError is an error without the token that its text may quote.
type redactedError struct {
	text  string
	cause error
}

// Error returns the text.
func (e *redactedError) Error() string { return e.text }

// Unwrap returns the cause, by which package resilience classifies.
func (e *redactedError) Unwrap() error { return e.cause }

func (w *WebIdentity) host() string {
	if address, err := url.Parse(w.Endpoint); err == nil {
		return address.Host
	}
	return ""
}

// tokenForm is what a JSON Web Token consists of, in a length that words of a message do not have.
var tokenForm = regexp.MustCompile(`[A-Za-z0-9_.-]{16,}`)

// withoutToken returns a text without the parts of the token, or of another one, that it quotes.
func (w *WebIdentity) withoutToken(text string) string {
	return tokenForm.ReplaceAllStringFunc(text, func(part string) string {
		if strings.HasPrefix(part, "eyJ") || strings.Contains(w.Token, strings.Trim(part, ".")) {
			return "[redacted]"
		}
		return part
	})
}
