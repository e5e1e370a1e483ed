# SPDX-License-Identifier: MIT
# Unchecked: written without Nix.
{
  description = "Pipelines of plugins for streams of events";

  inputs.nixpkgs.url = "nixpkgs";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: {
        default = pkgs.stdenv.mkDerivation {
          pname = "semstreams";
          version = nixpkgs.lib.fileContents ../../VERSION;
          src = ../..;
          nativeBuildInputs = with pkgs; [ autoreconfHook pkg-config ];
          buildInputs = with pkgs; [
            curl gnutls jansson libev libmicrohttpd libseccomp libwebsockets openssl pcre2 zlib zstd
          ];
          nativeCheckInputs = with pkgs; [ cmocka ];
          configureFlags = [
            "--enable-all-plugins" "--with-zlib" "--with-zstd" "--with-pcre2" "--with-seccomp"
          ];
          doCheck = true;
          enableParallelBuilding = true;
          meta.license = nixpkgs.lib.licenses.mit;
        };
      });
    };
}
