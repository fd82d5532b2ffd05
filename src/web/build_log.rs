//! The history of an image as the lines of a Dockerfile.

/// A step of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Such as `RUN`. Empty if unknown.
    pub(crate) word: String,
    pub(crate) text: String,
}

/// The words that begin a line of a Dockerfile.
const WORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The shells that builders write in front of a command.
const SHELLS: [&str; 2] = ["/bin/sh -c ", "/bin/bash -o pipefail -c "];

impl Instruction {
    /// Reads `created_by` of a step, as the classic builder, BuildKit and Buildah write it.
    pub(crate) fn read(created_by: &str) -> Self {
        let text = created_by.trim();
        let text = text.strip_suffix("# buildkit").unwrap_or(text).trim();
        // Build arguments: their number, and each one with its value.
        let text = match text.strip_prefix('|').and_then(|rest| rest.split_once(' ')) {
            Some((count, rest)) if count.bytes().all(|byte| byte.is_ascii_digit()) => after_shell(rest).unwrap_or(text),
            _ => text,
        };
        if let Some(command) = text.strip_prefix("/bin/sh -c #(nop)") {
            return Self::of_words(command.trim());
        }
        if let Some(command) = without_shell(text) {
            return Self { word: "RUN".to_owned(), text: lines(command) };
        }
        Self::of_words(text)
    }

    fn of_words(text: &str) -> Self {
        match text.split_once(' ') {
            Some((word, rest)) if WORDS.contains(&word) => {
                let rest = if word == "RUN" { without_shell(rest.trim()).unwrap_or(rest) } else { rest };
                Self { word: word.to_owned(), text: lines(rest) }
            }
            _ => Self { word: String::new(), text: text.to_owned() },
        }
    }
}

/// The lines of a command. Builders join the lines of a Dockerfile, and keep the blanks before each of them.
fn lines(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    let mut blanks = 0;
    for character in text.trim().chars() {
        if character == ' ' || character == '\t' {
            blanks += if character == '\t' { 2 } else { 1 };
            continue;
        }
        if blanks > 0 {
            // A line that begins with an operator follows one blank in some builders, and stays where it is.
            lines.push_str(if blanks > 1 { "\n  " } else { " " });
            blanks = 0;
        }
        lines.push(character);
    }
    lines
}

fn without_shell(text: &str) -> Option<&str> {
    SHELLS.iter().find_map(|shell| text.strip_prefix(shell))
}

/// The command with its shell, after build arguments.
fn after_shell(text: &str) -> Option<&str> {
    SHELLS.iter().filter_map(|shell| text.find(shell)).min().map(|at| &text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_read_like_a_dockerfile() {
        for (created_by, word, text) in [
            ("/bin/sh -c #(nop)  CMD [\"sh\"]", "CMD", "[\"sh\"]"),
            ("/bin/sh -c #(nop) ADD file:3f in / ", "ADD", "file:3f in /"),
            ("/bin/sh -c apt-get update", "RUN", "apt-get update"),
            ("RUN /bin/sh -c make # buildkit", "RUN", "make"),
            ("COPY . /src # buildkit", "COPY", ". /src"),
            ("RUN /bin/sh -c set -e;  \tmake;     make install # buildkit", "RUN", "set -e;\n  make;\n  make install"),
            ("|1 VERSION=1.2 /bin/sh -c build --version 1.2", "RUN", "build --version 1.2"),
            ("|2 A=1 B=2 RUN", "", "|2 A=1 B=2 RUN"),
            ("ENTRYPOINT [\"/app\"]", "ENTRYPOINT", "[\"/app\"]"),
            ("bazel build ...", "", "bazel build ..."),
            ("", "", ""),
            ("<script>", "", "<script>"),
        ] {
            let expected = Instruction { word: word.to_owned(), text: text.to_owned() };
            assert_eq!(Instruction::read(created_by), expected, "{created_by:?}");
        }
    }
}
