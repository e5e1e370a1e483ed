// SPDX-License-Identifier: MIT

// step-ca from Debian's packages of its source: serves what one ca.json describes until SIGTERM.  SIGHUP reads the
// file again.
package main

import (
	"errors"
	"log"
	"net/http"
	"os"

	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/ca"
	_ "github.com/smallstep/certificates/cas/softcas" // what "crt" is served by
	_ "github.com/smallstep/certificates/kms/softkms" // and "key"
	"go.step.sm/cli-utils/step"
)

func serve(file string) error {
	settings, err := config.LoadConfiguration(file)
	if err != nil {
		return err
	}
	server, err := ca.New(settings, ca.WithConfigFile(file))
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
	if len(os.Args) != 2 {
		log.Fatal("usage: step-ca ca.json")
	}
	step.Set("step-ca", "Debian", "")
	if err := serve(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}
