package account

import (
	"context"
	"net/http"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/identity/session"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/store"
)

const tag = "Accounts"

// Register adds the operations below /api/auth.
func Register(a *api.API, s *Service) {
	h := handlers{s}
	for _, add := range []func(*api.API){h.registration, h.signingIn, h.signingOut, h.passwords, h.self} {
		add(a)
	}
}

// handlers translate between HTTP and the flows.
type handlers struct{ s *Service }

type none struct{}

// accepted is the same whatever was accepted.
type accepted struct {
	Body struct {
		Message string `json:"message" doc:"The same whether or not there is such an account."`
	}
}

func accept(message string, err error) (*accepted, error) {
	if err != nil {
		return nil, err
	}
	out := &accepted{}
	out.Body.Message = message
	return out, nil
}

type emailBody struct {
	Body struct {
		Email string `json:"email" maxLength:"320" example:"jane@acme.example"`
	}
}

type emailPasswordBody struct {
	Body struct {
		Email    string `json:"email" maxLength:"320" example:"jane@acme.example"`
		Password string `json:"password" maxLength:"1024" doc:"15 to 256 characters."`
	}
}

type codeBody struct {
	Body struct {
		Email string `json:"email" maxLength:"320"`
		Code  string `json:"code" pattern:"^[0-9]{6}$" doc:"The six digits that were mailed."`
		// Needed where somebody else may have registered the email too.
		Password string `json:"password,omitempty" maxLength:"1024" doc:"Needed if the email was registered more than once."`
	}
}

type refreshBody struct {
	Body struct {
		RefreshToken string `json:"refreshToken" maxLength:"256"`
	}
}

type resetBody struct {
	Body struct {
		Token    string `json:"token" maxLength:"256" doc:"What was mailed."`
		Password string `json:"password" maxLength:"1024" doc:"15 to 256 characters."`
	}
}

type changeBody struct {
	Body struct {
		CurrentPassword string `json:"currentPassword" maxLength:"1024"`
		NewPassword     string `json:"newPassword" maxLength:"1024" doc:"15 to 256 characters."`
	}
}

// User is an account as its owner and the tenant's admins see it.
type User struct {
	ID         string    `json:"id"`
	Email      string    `json:"email"`
	Role       string    `json:"role" enum:"admin,agent,viewer"`
	VerifiedAt time.Time `json:"verifiedAt,omitzero"`
	CreatedAt  time.Time `json:"createdAt"`
}

func userOf(u store.User) User {
	return User{ID: u.ID, Email: u.Email, Role: u.Role, VerifiedAt: u.VerifiedAt.UTC(), CreatedAt: u.CreatedAt.UTC()}
}

type tokensOut struct {
	Body struct {
		AccessToken  string `json:"accessToken" doc:"A JWT: send it as Authorization: Bearer."`
		TokenType    string `json:"tokenType" enum:"Bearer"`
		ExpiresIn    int    `json:"expiresIn" doc:"For how many seconds the access token is good."`
		RefreshToken string `json:"refreshToken" doc:"Gives new tokens, once. Keep it to yourself."`
		User         User   `json:"user"`
	}
}

func tokensOf(t session.Tokens, err error) (*tokensOut, error) {
	if err != nil {
		return nil, err
	}
	out := &tokensOut{}
	b := &out.Body
	b.AccessToken = t.Access
	b.TokenType = "Bearer"
	b.ExpiresIn = int(t.ExpiresIn / time.Second)
	b.RefreshToken = t.Refresh
	b.User = userOf(t.User)
	return out, nil
}

func (h handlers) registration(a *api.API) {
	api.Register(a, api.Operation{
		Method:  http.MethodPost,
		Path:    "/api/auth/register",
		ID:      "register",
		Tag:     tag,
		Access:  api.Public,
		Status:  http.StatusAccepted,
		Summary: "Register",
		Description: "Makes an account and mails a code that verifies its email. Whoever has an account is mailed " +
			"that instead; the answer is the same.",
		Errors: []problem.Code{problem.Forbidden, problem.RateLimited, problem.Unavailable},
	},
		func(ctx context.Context, in *emailPasswordBody) (*accepted, error) {
			return accept(
				"look into your mail for a code", h.s.Register(ctx, api.TenantOf(ctx), in.Body.Email, in.Body.Password),
			)
		})
	api.Register(a, api.Operation{
		Method:  http.MethodPost,
		Path:    "/api/auth/verify-email",
		ID:      "verifyEmail",
		Tag:     tag,
		Access:  api.Public,
		Summary: "Verify an email",
		Description: "Takes the code that was mailed. It is good for ten minutes and five tries. An email that was " +
			"registered more than once also needs the password, " +
			"so that nobody verifies somebody else's.",
		Errors: []problem.Code{problem.RateLimited},
	},
		func(ctx context.Context, in *codeBody) (*accepted, error) {
			return accept(
				"the email is verified: sign in",
				h.s.VerifyEmail(ctx, api.TenantOf(ctx), in.Body.Email, in.Body.Code, in.Body.Password),
			)
		})
	api.Register(a, api.Operation{
		Method:      http.MethodPost,
		Path:        "/api/auth/resend-code",
		ID:          "resendCode",
		Tag:         tag,
		Access:      api.Public,
		Status:      http.StatusAccepted,
		Summary:     "Ask for a new code",
		Description: "Mails a new code to an email that waits for one. The previous code is no longer valid.",
		Errors:      []problem.Code{problem.RateLimited},
	},
		func(ctx context.Context, in *emailBody) (*accepted, error) {
			return accept(
				"if the email waits for a code, a new one is in the mail",
				h.s.ResendCode(ctx, api.TenantOf(ctx), in.Body.Email),
			)
		})
}

func (h handlers) signingIn(a *api.API) {
	api.Register(a, api.Operation{
		Method:  http.MethodPost,
		Path:    "/api/auth/login",
		ID:      "login",
		Tag:     tag,
		Access:  api.Public,
		Summary: "Sign in",
		Description: "Begins a session. A wrong email, a wrong password, an email that is not verified and a " +
			"disabled account are answered alike.",
		Errors: []problem.Code{problem.Authentication, problem.RateLimited, problem.Unavailable},
	},
		func(ctx context.Context, in *emailPasswordBody) (*tokensOut, error) {
			return tokensOf(h.s.Login(ctx, api.TenantOf(ctx), in.Body.Email, in.Body.Password))
		})
	api.Register(a, api.Operation{
		Method:  http.MethodPost,
		Path:    "/api/auth/refresh",
		ID:      "refresh",
		Tag:     tag,
		Access:  api.Public,
		Summary: "Refresh the tokens",
		Description: "Takes a refresh token and gives new tokens. The old one is valid for ten seconds more, and then " +
			"once within an hour, in case the answer was lost. Used again after that, it ends the session.",
		Errors: []problem.Code{problem.InvalidToken, problem.RateLimited},
	},
		func(ctx context.Context, in *refreshBody) (*tokensOut, error) {
			return tokensOf(h.s.Refresh(ctx, api.TenantOf(ctx), in.Body.RefreshToken))
		})
}

func (h handlers) signingOut(a *api.API) {
	api.Register(a, api.Operation{
		Method:      http.MethodPost,
		Path:        "/api/auth/logout",
		ID:          "logout",
		Tag:         tag,
		Access:      api.SignedIn,
		Summary:     "Sign out",
		Description: "Ends this session: neither of its tokens is good any more.",
	},
		func(ctx context.Context, _ *none) (*none, error) { return nil, h.s.Logout(ctx, api.TenantOf(ctx)) })
	api.Register(a, api.Operation{
		Method:      http.MethodPost,
		Path:        "/api/auth/logout-all",
		ID:          "logoutAll",
		Tag:         tag,
		Access:      api.SignedIn,
		Summary:     "Sign out everywhere",
		Description: "Ends all of your sessions, this one too.",
	},
		func(ctx context.Context, _ *none) (*none, error) { return nil, h.s.LogoutAll(ctx, api.TenantOf(ctx)) })
}

func (h handlers) passwords(a *api.API) {
	api.Register(a, api.Operation{
		Method:      http.MethodPost,
		Path:        "/api/auth/forgot-password",
		ID:          "forgotPassword",
		Tag:         tag,
		Access:      api.Public,
		Status:      http.StatusAccepted,
		Summary:     "Ask for a new password",
		Description: "Mails a token that sets the password, good for half an hour, if there is such an account.",
		Errors:      []problem.Code{problem.RateLimited},
	},
		func(ctx context.Context, in *emailBody) (*accepted, error) {
			return accept(
				"if the email has an account, look into your mail",
				h.s.ForgotPassword(ctx, api.TenantOf(ctx), in.Body.Email),
			)
		})
	api.Register(a, api.Operation{
		Method:  http.MethodPost,
		Path:    "/api/auth/reset-password",
		ID:      "resetPassword",
		Tag:     tag,
		Access:  api.Public,
		Status:  http.StatusNoContent,
		Summary: "Set a new password",
		Description: "Sets the password by the token that was mailed, once. All sessions end. An invitation is " +
			"accepted in the same way.",
		Errors: []problem.Code{problem.RateLimited, problem.Unavailable},
	},
		func(ctx context.Context, in *resetBody) (*none, error) {
			return nil, h.s.ResetPassword(ctx, api.TenantOf(ctx), in.Body.Token, in.Body.Password)
		})
	api.Register(a, api.Operation{
		Method:      http.MethodPost,
		Path:        "/api/auth/change-password",
		ID:          "changePassword",
		Tag:         tag,
		Access:      api.SignedIn,
		Status:      http.StatusNoContent,
		Summary:     "Change the password",
		Description: "Your other sessions end.",
		Errors:      []problem.Code{problem.Conflict, problem.Unavailable},
	},
		func(ctx context.Context, in *changeBody) (*none, error) {
			return nil, h.s.ChangePassword(ctx, api.TenantOf(ctx), in.Body.CurrentPassword, in.Body.NewPassword)
		})
}

type meOut struct {
	Body struct {
		User
		Tenant    string `json:"tenant" doc:"namespace/name"`
		SessionID string `json:"sessionId" doc:"The session of this access token."`
	}
}

// Session is a sign-in as its owner sees it.
type Session struct {
	ID         string    `json:"id"`
	Device     string    `json:"device" doc:"What the client called itself when it was last seen."`
	Address    string    `json:"address" doc:"From where it was last seen."`
	CreatedAt  time.Time `json:"createdAt"`
	LastSeenAt time.Time `json:"lastSeenAt" doc:"When it was last refreshed."`
	ExpiresAt  time.Time `json:"expiresAt"`
	Current    bool      `json:"current" doc:"It is the session of this access token."`
}

type sessionsOut struct {
	Body struct {
		Items []Session `json:"items"`
	}
}

type sessionPath struct {
	ID string `path:"id" maxLength:"64"`
}

func (h handlers) self(a *api.API) {
	api.Register(a, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/auth/me",
		ID:      "me",
		Tag:     tag,
		Access:  api.SignedIn,
		Summary: "Who you are",
	}, h.me)
	api.Register(a, api.Operation{
		Method:      http.MethodGet,
		Path:        "/api/auth/sessions",
		ID:          "listSessions",
		Tag:         tag,
		Access:      api.SignedIn,
		Summary:     "Your sessions",
		Description: "Where you are signed in, at most 50.",
	}, h.sessions)
	api.Register(a, api.Operation{
		Method:  http.MethodDelete,
		Path:    "/api/auth/sessions/{id}",
		ID:      "revokeSession",
		Tag:     tag,
		Access:  api.SignedIn,
		Summary: "End one of your sessions",
		Errors:  []problem.Code{problem.NotFound},
	},
		func(ctx context.Context, in *sessionPath) (*none, error) {
			return nil, h.s.RevokeSession(ctx, api.TenantOf(ctx), in.ID)
		})
}

func (h handlers) me(ctx context.Context, _ *none) (*meOut, error) {
	user, err := h.s.Me(ctx, api.TenantOf(ctx))
	if err != nil {
		return nil, err
	}
	out := &meOut{}
	out.Body.User = userOf(user)
	out.Body.Tenant = api.PrincipalOf(ctx).Tenant
	out.Body.SessionID = api.PrincipalOf(ctx).SessionID
	return out, nil
}

func (h handlers) sessions(ctx context.Context, _ *none) (*sessionsOut, error) {
	list, err := h.s.Sessions(ctx, api.TenantOf(ctx))
	if err != nil {
		return nil, err
	}
	out := &sessionsOut{}
	for _, s := range list {
		item := Session{
			ID:         s.ID,
			Device:     s.Device,
			CreatedAt:  s.CreatedAt.UTC(),
			LastSeenAt: s.LastSeenAt.UTC(),
			ExpiresAt:  s.ExpiresAt.UTC(),
			Current:    s.ID == api.PrincipalOf(ctx).SessionID,
		}
		if s.Address.IsValid() {
			item.Address = s.Address.String()
		}
		out.Body.Items = append(out.Body.Items, item)
	}
	return out, nil
}
