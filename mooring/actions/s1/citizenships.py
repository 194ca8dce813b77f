"""What citizens of a country are called in English, as HR systems write a citizenship."""

from __future__ import annotations

from typing import Final

CITIZENSHIPS: Final = """
AD Andorran
AE Emirati, Emirian
AF Afghan
AG Antiguan, Barbudan, Antiguan and Barbudan
AI Anguillan
AL Albanian
AM Armenian
AO Angolan
AR Argentine, Argentinian, Argentinean
AS American Samoan
AT Austrian
AU Australian
AW Aruban
AX Ålander
AZ Azerbaijani, Azeri
BA Bosnian, Herzegovinian, Bosnian and Herzegovinian
BB Barbadian, Bajan
BD Bangladeshi
BE Belgian
BF Burkinabe, Burkinabé
BG Bulgarian
BH Bahraini
BI Burundian
BJ Beninese
BM Bermudian, Bermudan
BN Bruneian
BQ Bonairean, Statian, Saban
BO Bolivian
BR Brazilian
BS Bahamian
BT Bhutanese
BW Botswanan, Botswana, Motswana, Batswana
BY Belarusian, Belarussian
BZ Belizean
CA Canadian
CD Congolese (Democratic Republic), Congolese (Kinshasa), DR Congolese
CF Central African
CG Congolese (Republic), Congolese (Brazzaville)
CH Swiss
CI Ivorian
CK Cook Islander
CL Chilean
CM Cameroonian
CN Chinese
CO Colombian
CR Costa Rican
CU Cuban
CV Cape Verdean, Cabo Verdean
CW Curacaoan
CX Christmas Islander
CY Cypriot
CZ Czech
DE German
DJ Djiboutian, Djibouti
DK Danish, Dane
DM Dominican (Dominica)
DO Dominican, Dominican (Republic)
DZ Algerian
EC Ecuadorian, Ecuadorean
EE Estonian
EG Egyptian
EH Sahrawi, Saharawi, Western Saharan
ER Eritrean
ES Spanish, Spaniard
ET Ethiopian
FI Finnish, Finn
FJ Fijian
FK Falkland Islander
FM Micronesian
FO Faroese
FR French
GA Gabonese
GB British, Briton, English, Scottish, Welsh, Northern Irish
GD Grenadian
GE Georgian
GF French Guianese, Guianese
GG Guernsey, Guernseyman
GH Ghanaian
GI Gibraltarian
GL Greenlandic, Greenlander
GM Gambian
GN Guinean
GP Guadeloupian, Guadeloupean
GQ Equatorial Guinean, Equatoguinean
GR Greek, Hellenic
GT Guatemalan
GU Guamanian
GW Bissau-Guinean, Guinea-Bissauan
GY Guyanese
HK Hong Konger, Hongkonger, Hong Kong
HN Honduran
HR Croatian, Croat
HT Haitian
HU Hungarian
ID Indonesian
IE Irish
IL Israeli
IM Manx
IN Indian
IQ Iraqi
IR Iranian
IS Icelandic, Icelander
IT Italian
JE Jersey, Jerseyman
JM Jamaican
JO Jordanian
JP Japanese
KE Kenyan
KG Kyrgyz, Kirgiz, Kyrgyzstani, Kirghiz
KH Cambodian
KI I-Kiribati
KM Comoran, Comorian
KN Kittitian, Nevisian, Kittitian and Nevisian
KP North Korean
KR South Korean, Korean
KW Kuwaiti
KY Caymanian
KZ Kazakh, Kazakhstani
LA Lao, Laotian
LB Lebanese
LC Saint Lucian, St Lucian
LI Liechtensteiner, Liechtenstein
LK Sri Lankan
LR Liberian
LS Basotho, Mosotho, Lesothan
LT Lithuanian
LU Luxembourgish, Luxembourger, Luxembourg
LV Latvian
LY Libyan
MA Moroccan
MC Monegasque, Monacan
MD Moldovan
ME Montenegrin
MF Saint Martin Islander
MG Malagasy, Madagascan
MH Marshallese
MK Macedonian, North Macedonian
ML Malian
MM Burmese, Myanmar
MN Mongolian
MO Macanese
MQ Martinican, Martiniquais
MR Mauritanian
MS Montserratian
MT Maltese
MU Mauritian
MV Maldivian
MW Malawian
MX Mexican
MY Malaysian
MZ Mozambican
NA Namibian
NC New Caledonian
NE Nigerien
NF Norfolk Islander
NG Nigerian
NI Nicaraguan
NL Dutch, Netherlander, Dutchman
NO Norwegian
NP Nepalese, Nepali
NR Nauruan
NU Niuean
NZ New Zealander, Kiwi, New Zealand
OM Omani
PA Panamanian
PE Peruvian
PF French Polynesian, Polynesian
PG Papua New Guinean, Papuan
PH Filipino, Filipina, Philippine
PK Pakistani
PL Polish, Pole
PM Saint-Pierrais, Miquelonnais
PN Pitcairn Islander
PR Puerto Rican
PS Palestinian
PT Portuguese
PW Palauan
PY Paraguayan
QA Qatari
RE Réunionese, Réunionnais
RO Romanian
RS Serbian, Serb
RU Russian
RW Rwandan
SA Saudi, Saudi Arabian
SB Solomon Islander
SC Seychellois
SD Sudanese
SE Swedish, Swede
SG Singaporean
SH Saint Helenian
SI Slovenian, Slovene
SK Slovak, Slovakian
SL Sierra Leonean
SM Sammarinese, San Marinese
SN Senegalese
SO Somali
SR Surinamese
SS South Sudanese
ST Sao Tomean, Santomean
SV Salvadoran, Salvadorean
SX Sint Maartener
SY Syrian
SZ Swazi
TC Turks and Caicos Islander
TD Chadian
TG Togolese
TH Thai
TJ Tajik, Tajikistani
TK Tokelauan
TL Timorese, East Timorese
TM Turkmen, Turkmenistani
TN Tunisian
TO Tongan
TR Turkish, Turk
TT Trinidadian, Tobagonian, Trinidadian and Tobagonian
TV Tuvaluan
TW Taiwanese
TZ Tanzanian
UA Ukrainian
UG Ugandan
US American, United States, US American
UY Uruguayan
UZ Uzbek, Uzbekistani
VA Vatican
VC Saint Vincentian, Vincentian
VE Venezuelan
VG British Virgin Islander
VI US Virgin Islander
VN Vietnamese
VU Ni-Vanuatu, Vanuatuan
WF Wallisian, Futunan, Wallis and Futuna Islander
WS Samoan
YE Yemeni, Yemenite
YT Mahoran
ZA South African
ZM Zambian
ZW Zimbabwean
"""
"""A line for each country: its alpha-2 code, and the words."""
