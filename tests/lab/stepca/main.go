// SPDX-License-Identifier: MIT

// step-ca from Debian's packages of its source: serves what one ca.json describes until SIGTERM.  SIGHUP reads the
// file again.
package main

import (
	"bytes"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"

	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/ca"
	_ "github.com/smallstep/certificates/cas/softcas" // what "crt" is served by
	_ "github.com/smallstep/certificates/kms/softkms" // and "key"
	"go.step.sm/cli-utils/step"
)

func serve(file, password string) error {
	settings, err := config.LoadConfiguration(file)
	if err != nil {
		return err
	}
	options := []ca.Option{ca.WithConfigFile(file)}
	if password != "" {
		text, err := os.ReadFile(password)
		if err != nil {
			return err
		}
		options = append(options, ca.WithPassword(bytes.TrimRight(text, "\r\n")))
	}
	server, err := ca.New(settings, options...)
	if err != nil {
		return err
	}
	go ca.StopReloaderHandler(server)
	if err := server.Run(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func main() {
	password := flag.String("password-file", "", "the password of the CA's key")
	flag.Parse()
	args := flag.Args()
	if len(args) == 3 && args[1] == "--password-file" { // its own place in step-ca's command line
		*password, args = args[2], args[:1]
	}
	if len(args) != 1 {
		log.Fatal("usage: step-ca ca.json [--password-file FILE]")
	}
	step.Set("step-ca", "Debian", "")
	if err := serve(args[0], *password); err != nil {
		log.Fatal(err)
	}
}
