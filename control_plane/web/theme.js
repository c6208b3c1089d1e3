// Light or dark before anything is drawn: as somebody chose here, else as the system has it.
const chosenTheme = localStorage.getItem("optiinfra-theme");
if (chosenTheme === "light" || chosenTheme === "dark") document.documentElement.dataset.theme = chosenTheme;
