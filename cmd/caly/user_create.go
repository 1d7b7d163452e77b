package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/store"
)

// maxPasswordInput bounds what is read of standard input, in bytes.
const maxPasswordInput = 4096

type createOptions struct {
	*userOptions
	email, role, output string
	stdin, invite       bool
}

func newUserCreateCommand(o *userOptions) *cobra.Command {
	c := createOptions{userOptions: o}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create an account",
		Args:  cli.NoArgs,
		Long: "Creates an account with the password in the first line of standard input. If " +
			"standard input is a terminal or empty, and with\n" +
			"--invite, it creates a token instead and prints it once. " +
			"The person who gets the token sets the password within a week with\n" +
			"POST /api/auth/reset-password. The account can be used at once, whatever the Tenant's allowedEmailDomains.",
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd) },
	}
	cmd.Flags().StringVar(&c.email, "email", "", "email of the account; required")
	cmd.Flags().StringVar(&c.role, "role", "", "admin, agent or viewer; required")
	cmd.Flags().BoolVar(&c.stdin, "password-stdin", false, "read the password from standard input, whatever that is")
	cmd.Flags().BoolVar(&c.invite, "invite", false, "create a token, whatever standard input is")
	cmd.Flags().StringVarP(&c.output, "output", "o", "table", "table or json")
	return cmd
}

// check returns errors of usage, and normalizes the email.
func (c *createOptions) check() (err error) {
	if c.stdin && c.invite {
		return cli.UsageError(nil, errors.New("give --password-stdin or --invite, not both"))
	}
	if !slices.Contains([]string{store.RoleAdmin, store.RoleAgent, store.RoleViewer}, c.role) {
		return cli.UsageError(nil, fmt.Errorf("--role %q is not one of admin, agent and viewer", c.role))
	}
	if err := c.userOptions.check(); err != nil {
		return err
	}
	if err := checkOutput(c.output); err != nil {
		return err
	}
	c.email, err = parseEmail(c.email)
	return err
}

// run creates the account, with the password of standard input, with an invitation, or with a token that it prints.
func (c *createOptions) run(cmd *cobra.Command) error {
	if err := c.check(); err != nil {
		return err
	}
	hash := ""
	if c.stdin || (!c.invite && piped(cmd.InOrStdin())) {
		var err error
		if hash, err = c.readPassword(cmd); err != nil {
			return err
		}
	}
	db, err := c.open(cmd)
	if err != nil {
		return err
	}
	defer db.Close()
	known, err := db.KnowsTenant(cmd.Context(), c.tenant)
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("the operator knows no Tenant %s: apply it first, or correct --tenant", c.tenant)
	}
	return c.create(cmd, db, hash)
}

// piped reports whether standard input carries a password. Terminals and /dev/null are character devices. A command
// that is started without standard input has /dev/null.
func piped(in io.Reader) bool {
	file, ok := in.(*os.File)
	if !ok {
		return true
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice == 0
}

// readPassword returns the hash of the password in the first line.
func (c *createOptions) readPassword(cmd *cobra.Command) (string, error) {
	data, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxPasswordInput))
	if err != nil {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	pw, rest, _ := strings.Cut(string(data), "\n")
	pw = strings.TrimSuffix(pw, "\r")
	switch why := password.Check(pw, c.email, c.tenant); {
	case pw == "":
		return "", cli.UsageError(
			nil,
			errors.New(
				"standard input has no password in its first line: pipe one in (kubectl exec needs -i for that), or give --invite",
			),
		)
	case strings.TrimSpace(rest) != "":
		return "", cli.UsageError(nil, errors.New("standard input has more than one line: a password is one"))
	case why != "":
		return "", cli.UsageError(nil, fmt.Errorf("the password %s", why))
	}
	return password.NewHasher(password.Options{}).Hash(cmd.Context(), pw)
}

// created is an account that was made, in JSON.
type created struct {
	ID         string     `json:"id"`
	Email      string     `json:"email"`
	Role       string     `json:"role"`
	ResetToken string     `json:"resetToken,omitempty"`
	ExpiresAt  *time.Time `json:"expiresAt,omitempty"` // of the token
}

// create makes the account: with a hash at once, without one by a token.
func (c *createOptions) create(cmd *cobra.Command, db *store.Operator, hash string) (err error) {
	newUser := store.NewUser{ID: store.NewID(), Email: c.email, Role: c.role, PasswordHash: hash, Verified: hash != ""}
	out := created{ID: newUser.ID, Email: newUser.Email, Role: newUser.Role}
	if hash != "" {
		err = db.CreateUser(cmd.Context(), c.tenant, newUser, store.Origin{})
	} else {
		token, stored := store.NewResetToken(store.HandedTokenLifetime)
		expires := time.Now().Add(store.HandedTokenLifetime).UTC().Truncate(time.Second)
		out.ResetToken = token
		out.ExpiresAt = &expires
		err = db.Invite(cmd.Context(), c.tenant, store.Invitation{User: newUser, Token: stored}, store.Origin{})
	}
	if errors.Is(err, store.ErrEmailTaken) {
		return fmt.Errorf("%s has an account of %s already: caly user list shows it", c.tenant, c.email)
	}
	if err != nil {
		return err
	}
	return c.print(cmd, out)
}

// print gives the token to standard output alone, for pipes.
func (c *createOptions) print(cmd *cobra.Command, out created) error {
	if c.output == "json" {
		return cli.PrintJSON(cmd.OutOrStdout(), out)
	}
	if out.ResetToken == "" {
		cmd.Printf("%s is %s of %s\n", out.Email, out.Role, c.tenant)
		return nil
	}
	cmd.PrintErrf(
		"%s is %s of %s. This token sets the password until %s, and is not shown again:\n",
		out.Email,
		out.Role,
		c.tenant,
		out.ExpiresAt.Format(time.RFC3339),
	)
	cmd.Println(out.ResetToken)
	return nil
}
